"""Telemetry: logs, metrics and events on their way out of the process, the same in every service."""

from . import names
from .access import Access
from .exposition import CONTENT_TYPE
from .hooks import declare_peer, log_hook, metrics_hook, tell
from .logs import Logs, install
from .metrics import BUCKETS, Counter, Family, Gauge, Histogram, Metrics
from .outlet import Outlet
from .process import add_process_metrics

__all__ = [
    "BUCKETS",
    "CONTENT_TYPE",
    "Access",
    "Counter",
    "Family",
    "Gauge",
    "Histogram",
    "Logs",
    "Metrics",
    "Outlet",
    "add_process_metrics",
    "declare_peer",
    "install",
    "log_hook",
    "metrics_hook",
    "names",
    "tell",
]
