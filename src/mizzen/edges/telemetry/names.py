"""Every metric that Mizzen has: its name, its labels and what it says. Surfaces that dashboards and alerts rest on.

Names follow OpenTelemetry's semantic conventions for HTTP where these have one, in Prometheus form. No label ever
carries a raw path or an id of a request.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Kind = Literal["counter", "gauge", "histogram"]


class Name(Struct, frozen=True):
    """One family of metrics."""

    kind: Kind
    name: str
    help: str
    labels: tuple[str, ...] = ()


SERVER_DURATION = Name(
    "histogram",
    "http_server_request_duration_seconds",
    "Time from the head of a request to the last byte of its answer.",
    ("http_request_method", "http_route", "http_response_status_code"),
)
SERVER_ACTIVE = Name("gauge", "http_server_active_requests", "Requests being answered now.")
CLIENT_DURATION = Name(
    "histogram",
    "http_client_request_duration_seconds",
    "Time of one attempt of a call, by what it came to.",
    ("peer", "http_request_method", "outcome"),
)
CALL_DURATION = Name(
    "histogram",
    "mizzen_call_duration_seconds",
    "Time of one call with its retries, by what its last attempt came to.",
    ("peer", "outcome"),
)
RETRIES = Name("counter", "mizzen_retries_total", "Attempts after the first, by what made them necessary.", ("peer", "outcome"))
RETRY_BALANCE = Name("gauge", "mizzen_retry_budget_balance", "Retries that the budget allows at this moment.", ("peer",))
BREAKER_STATE = Name("gauge", "mizzen_breaker_state", "1 for the state the breaker is in, 0 for the others.", ("peer", "state"))
ENDPOINTS = Name("gauge", "mizzen_endpoints", "Known instances of a peer by status.", ("peer", "status"))
SNAPSHOT_AGE = Name("gauge", "mizzen_snapshot_age_seconds", "Time since discovery last answered for a peer.", ("peer",))
SNAPSHOT_STATE = Name(
    "gauge", "mizzen_snapshot_state", "1 for what the known instances of a peer are, 0 for the others.", ("peer", "state")
)
SNAPSHOT_READS = Name("counter", "mizzen_snapshot_reads_total", "Complete sets that discovery read for a peer.", ("peer",))
SNAPSHOT_ERRORS = Name("counter", "mizzen_snapshot_errors_total", "Reads for a peer that failed.", ("peer",))
SNAPSHOT_HOLDS = Name(
    "counter", "mizzen_snapshot_holds_total", "Times that a read left out so many instances that they were kept.", ("peer",)
)
BUILD_INFO = Name("gauge", "mizzen_build_info", "1, labelled with what is running.", ("version", "service", "python"))
LINES_DROPPED = Name("counter", "mizzen_log_lines_dropped_total", "Log lines lost because nobody took them in time.")
WORKERS = Name("gauge", "mizzen_workers", "Worker processes by state, of a service that has several.", ("state",))
WORKER_RESTARTS = Name("counter", "mizzen_worker_restarts_total", "Workers that ended and were started again.")
STATE = Name("gauge", "mizzen_state", "1 for the state the service is in, 0 for the others.", ("state",))

CPU = Name("counter", "process_cpu_seconds_total", "CPU time in user and system mode.")
OPEN_FDS = Name("gauge", "process_open_fds", "Open file descriptors.")
MAX_FDS = Name("gauge", "process_max_fds", "Most file descriptors that may be open.")
VIRTUAL_MEMORY = Name("gauge", "process_virtual_memory_bytes", "Virtual memory size.")
RESIDENT_MEMORY = Name("gauge", "process_resident_memory_bytes", "Resident memory size.")
START_TIME = Name("gauge", "process_start_time_seconds", "When the process started, in seconds since the epoch.")

ALL = (
    SERVER_DURATION, SERVER_ACTIVE, CLIENT_DURATION, CALL_DURATION, RETRIES, RETRY_BALANCE, BREAKER_STATE, ENDPOINTS,
    SNAPSHOT_AGE, SNAPSHOT_STATE, SNAPSHOT_READS, SNAPSHOT_ERRORS, SNAPSHOT_HOLDS, BUILD_INFO, LINES_DROPPED, WORKERS,
    WORKER_RESTARTS, STATE, CPU, OPEN_FDS, MAX_FDS, VIRTUAL_MEMORY, RESIDENT_MEMORY, START_TIME,
)  # fmt: skip

BREAKER_STATES = ("closed", "open", "half_open")
SNAPSHOT_STATES = ("never", "fresh", "stale", "held")
STATES = ("starting", "serving", "lingering", "draining", "closed")
WORKER_STATES = (*STATES, "silent", "dead")
"""A silent worker has a process and says nothing."""
