"""Telemetry: logs, metrics and events on their way out of the process, the same in every service."""

from typing import TYPE_CHECKING

from mizzen.words.lazy import lazily

if TYPE_CHECKING:
    from . import names
    from .access import UNMATCHED, Access
    from .exposition import CONTENT_TYPE, Sample, compose
    from .figures import Figures, figures_of
    from .hooks import declare_peer, log_hook, metrics_hook, tell
    from .logs import Logs, install
    from .metrics import BUCKETS, Counter, Family, Gauge, Histogram, Metrics
    from .outlet import Outlet
    from .process import add_process_metrics
else:
    __getattr__ = lazily(
        __name__,
        {
            ".access": "UNMATCHED Access",
            ".exposition": "CONTENT_TYPE Sample compose",
            ".figures": "Figures figures_of",
            ".hooks": "declare_peer log_hook metrics_hook tell",
            ".logs": "Logs install",
            ".metrics": "BUCKETS Counter Family Gauge Histogram Metrics",
            ".outlet": "Outlet",
            ".process": "add_process_metrics",
        },
    )

__all__ = [
    "BUCKETS",
    "CONTENT_TYPE",
    "UNMATCHED",
    "Access",
    "Counter",
    "Family",
    "Figures",
    "Gauge",
    "Histogram",
    "Logs",
    "Metrics",
    "Outlet",
    "Sample",
    "add_process_metrics",
    "compose",
    "declare_peer",
    "figures_of",
    "install",
    "log_hook",
    "metrics_hook",
    "names",
    "tell",
]
