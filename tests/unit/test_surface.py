"""Surfaces: what users, callers, scrapers and log readers rest on changes on purpose or not at all."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest

import mizzen
from mizzen import testing
from mizzen.edges.telemetry import names
from mizzen.edges.telemetry.access import json_access
from mizzen.edges.telemetry.lines import JsonLines
from mizzen.rules import events
from mizzen.rules.router import Options
from mizzen.testing import run
from mizzen.words import errors
from mizzen.words.context import Context
from mizzen.words.handler import CLIENT_ORDER, SERVER_ORDER
from mizzen.words.message import Request, Response
from mizzen.words.outcome import TABLE, Resend, Verdict

EXPORTS = """
Answer BadRequest BreakerOpen CallError CallTimeout Client ConfigError Conflict ConnectFailed ConnectionLost Context
DeadlinePassed Fault Forbidden Handler Header Headers Invalid Layer MethodNotAllowed MizzenError NoInstances NotFound
Outcome PeerError Problem Request RequestTimeout Resend Response Router ServerSentEvent Service StartError TooLarge
TooManyRequests Unauthorized Unavailable UnsupportedMedia Verdict asgi classify current
"""

SIGNATURES = {
    "Service": "(name)",
    "Service.provide": "(self, what, factory=None, *, check=None, required=True)",
    "Service.mount": "(self, register_handlers, *, prefix='')",
    "Service.mount_app": "(self, path, app, *, timeout=None, max_body=None)",
    "Service.client": "(self, name, *, required=False, timeout=None, retries=None, classify=classify)",
    "Service.check": "(self, name, function, *, required=True)",
    "Router.route": "(self, method, template, function, **options)",
    "Router.get": "(self, template, function, **options)",
    "Router.post": "(self, template, function, **options)",
    "Router.put": "(self, template, function, **options)",
    "Router.patch": "(self, template, function, **options)",
    "Router.delete": "(self, template, function, **options)",
    "Router.head": "(self, template, function, **options)",
    "Router.options": "(self, template, function, **options)",
    "Router.use": "(self, layer)",
    "Router.mount": "(self, register_handlers, *, prefix='')",
    "Client.call": (
        "(self, method, template, *, path=None, query=None, headers=None, body=None, into=None, absent=raise PeerError, "
        "statuses=(), timeout=None, idempotent=None)"
    ),
    "Client.stream": (
        "(self, method, template, *, path=None, query=None, headers=None, body=None, statuses=(), "
        "timeout=None, idempotent=None)"
    ),
    "Client.get": "(self, template, **options)",
    "Client.head": "(self, template, **options)",
    "Client.post": "(self, template, **options)",
    "Client.put": "(self, template, **options)",
    "Client.patch": "(self, template, **options)",
    "Client.delete": "(self, template, **options)",
    "Header": "(name=None)",
    "Headers": "(items=())",
    "Request": "(method, path, *, query='', headers=None, body=b'', context=None, peer='', call=None)",
    "Response": "(status=200, body=b'', *, headers=None, content_type=None)",
    "Response.json_of": "(value, status=200)",
    "Context": "(trace_id='', *, parent_id='', flags='01', tracestate='', deadline=None, clock=monotonic, baggage='')",
    "current": "()",
    "asgi": "(service, *, system=None, logs=True)",
    "classify": "(request, result)",
    "StartError": "(what, *, where=(), fix='')",
    "Answer": "(detail='', *, errors=(), headers=None, type='about:blank', title='')",
    "CallError": "(detail, *, peer='')",
    "PeerError": "(detail, *, peer='', status=0, problem=None, headers=None, body=b'')",
    "BreakerOpen": "(detail, *, peer='', retry_after=0.0)",
    "CallTimeout": "(detail, *, peer='', limit='attempt', short=False)",
    "ConnectionLost": "(detail, *, peer='', idle=False, sent=True)",
    "Fault": "(path, reason)",
    "Problem": "(type='about:blank', title='', status=0, detail='', trace_id='', errors=UNSET)",
    "Outcome": "(name, resend, breaker, ejection, status, free=False, throttled=False)",
    "testing.client": "(service, overrides=None, *, peers=None, network=None)",
    "testing.run": "(main, *, start=0.0)",
    "testing.TestClient.request": "(self, method, path, *, json=UNSET, body=b'', headers=None, query=None)",
}

METRICS = {
    "http_server_request_duration_seconds": ("histogram", "http_request_method http_route http_response_status_code"),
    "http_server_active_requests": ("gauge", ""),
    "http_client_request_duration_seconds": ("histogram", "peer http_request_method outcome"),
    "mizzen_call_duration_seconds": ("histogram", "peer outcome"),
    "mizzen_retries_total": ("counter", "peer outcome"),
    "mizzen_retry_budget_balance": ("gauge", "peer"),
    "mizzen_breaker_state": ("gauge", "peer state"),
    "mizzen_endpoints": ("gauge", "peer status"),
    "mizzen_snapshot_age_seconds": ("gauge", "peer"),
    "mizzen_snapshot_state": ("gauge", "peer state"),
    "mizzen_snapshot_reads_total": ("counter", "peer"),
    "mizzen_snapshot_errors_total": ("counter", "peer"),
    "mizzen_snapshot_holds_total": ("counter", "peer"),
    "mizzen_build_info": ("gauge", "version service python"),
    "mizzen_log_lines_dropped_total": ("counter", ""),
    "mizzen_workers": ("gauge", "state"),
    "mizzen_worker_restarts_total": ("counter", ""),
    "mizzen_state": ("gauge", "state"),
    "process_cpu_seconds_total": ("counter", ""),
    "process_open_fds": ("gauge", ""),
    "process_max_fds": ("gauge", ""),
    "process_virtual_memory_bytes": ("gauge", ""),
    "process_resident_memory_bytes": ("gauge", ""),
    "process_start_time_seconds": ("gauge", ""),
}

LINE = ["time", "level", "message", "logger", "service", "version", "instance", "trace_id", "span_id"]
OF_WORKER = [*LINE[:7], "worker", *LINE[7:]]
ACCESS = [*LINE, "method", "route", "path", "status", "duration_ms", "bytes", "peer"]

EVENTS = {
    "StateChanged": "service state why seconds",
    "StepTaken": "step seconds limit detail",
    "CheckChanged": "check ok required detail",
    "LinesDropped": "count why",
    "BreakerChanged": "peer state failures cooldown next_trial affects",
    "Ejected": "peer instance failures seconds",
    "Readmitted": "peer instance",
    "BudgetExhausted": "peer",
    "RegistryLost": "registry seconds serving error",
    "RegistryBack": "registry seconds_lost instance took failed_calls why",
    "RegistryRefused": "registry instance error",
    "IdTaken": "registry instance error",
    "Registered": "registry instance verdict",
    "Withdrawn": "registry instance error",
    "SnapshotChanged": "peer added removed total",
    "SnapshotHeld": "peer known offered seconds",
    "SnapshotRecalled": "peer registry total age",
}

OUTCOMES = """
ok redirect client_error throttled shed leaving expired final unavailable server_error refused closed_unsent closed_idle
lost timeout deadline_short deadline cancelled breaker_open no_instances misfit unknown
"""


def test_the_exports_are_pinned() -> None:
    """User code imports `mizzen` and `mizzen.testing` alone; what these offer is listed, sorted and there."""
    assert list(mizzen.__all__) == EXPORTS.split() == sorted(EXPORTS.split())
    assert all(hasattr(mizzen, name) for name in mizzen.__all__)
    assert list(testing.__all__) == ["MemoryNetwork", "TestClient", "client", "run"]
    assert all(hasattr(testing, name) for name in testing.__all__)


def _shown(default: Any) -> str:
    return getattr(default, "__name__", None) or repr(default)


def _written(function: Callable[..., Any]) -> str:
    """A signature without its annotations, which the type checker pins."""
    out, starred = [], False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            starred = True
            out.append("*")
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        default = "" if parameter.default is parameter.empty else f"={_shown(parameter.default)}"
        out.append(f"{stars}{parameter.name}{default}")
    return f"({', '.join(out)})"


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_pinned(name: str) -> None:
    """Names, order and defaults of what users call."""
    found: Any = mizzen
    for part in name.split("."):
        found = getattr(found, part)
    assert _written(found) == SIGNATURES[name]


def test_options_are_keyword_only() -> None:
    """Nothing beyond the obvious is passed by position, so that an option can be added anywhere."""
    for name, signature in SIGNATURES.items():
        if name in ("Fault", "Problem", "Outcome"):  # records, in the order of their fields
            continue
        by_position = signature.partition("*")[0]
        assert by_position.count("=") <= 2, name


def test_the_options_of_a_route_are_pinned() -> None:
    """What a route may say besides its template and function."""
    assert list(Options.__annotations__) == ["status", "raises", "timeout", "max_body", "layers"]


def test_the_exceptions_are_the_tree_in_their_docstring() -> None:
    """The drawn tree is the real one: names, parents and statuses, with none left out."""
    drawn: dict[str, tuple[str, int | None]] = {}
    above: list[tuple[int, str]] = []
    tree = (errors.__doc__ or "").partition("::")[2]
    for line in tree.splitlines():
        match = re.match(r"^    ([│ ├└─]*)(\w+)\s*(\d{3})?", line)
        if match is None:
            continue
        depth, name, status = len(match[1]), match[2], match[3]
        while above and above[-1][0] >= depth:
            above.pop()
        drawn[name] = (above[-1][1] if above else "Exception", int(status) if status else None)
        above.append((depth, name))
    real = {
        name: (kind.__bases__[0].__name__, vars(kind).get("status") if name != "Answer" else None)
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, BaseException)
    }
    assert drawn == real
    assert len(real) == 24


def test_the_families_of_exceptions_never_mix() -> None:
    """What we say and what happened to our call have nothing in common but the root, and only answers have a status."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.MizzenError)]
    assert not any(issubclass(kind, errors.Answer) and issubclass(kind, errors.CallError) for kind in kinds)
    statuses = [kind.status for kind in kinds if issubclass(kind, errors.Answer) and kind is not errors.Answer]
    assert len(statuses) == len(set(statuses)) == 13


def test_the_orders_of_the_stacks_are_pinned() -> None:
    """The order is the design's, and every place says why it stands there."""
    client, server = [place.name for place in CLIENT_ORDER], [place.name for place in SERVER_ORDER]
    assert client == ["edge", "breaker", "retry", "hedge", "attempt"]
    assert server == ["edge", "shed", "deadline", "route", "layers"]
    assert all(place.why for place in (*CLIENT_ORDER, *SERVER_ORDER))


def test_the_metrics_are_pinned() -> None:
    """Names, kinds and labels: dashboards and alerts rest on them."""
    assert {name.name: (name.kind, " ".join(name.labels)) for name in names.ALL} == METRICS
    assert (names.BREAKER_STATES, names.STATES) == (
        ("closed", "open", "half_open"), ("starting", "serving", "lingering", "draining", "closed"),
    )  # fmt: skip


def test_the_outcomes_are_pinned() -> None:
    """Their names are label values."""
    assert [row.name for row in TABLE] == OUTCOMES.split()
    assert [each.value for each in Resend] == ["never", "idempotent", "any"]
    assert [each.value for each in Verdict] == ["success", "failure", "neutral", "penalised", "leaving"]


def test_the_fields_of_a_log_line_are_pinned() -> None:
    """Every line begins with the same fields in the same order."""
    lines = JsonLines(service="order", version="1", instance="order-1")
    record = logging.LogRecord("shop", logging.INFO, "", 0, "text", (), None)
    assert list(json.loads(lines.record(record))) == LINE


def test_the_fields_of_a_workers_line_are_pinned() -> None:
    """One of several workers says after the instance which one it is, in every line."""
    lines = JsonLines(service="order", version="1", instance="order-1", worker=2)
    record = json.loads(lines.record(logging.LogRecord("shop", logging.INFO, "", 0, "text", (), None)))
    assert (list(record), record["worker"]) == (OF_WORKER, 2)
    written: list[bytes] = []
    request = Request("GET", "/orders/7", context=Context(), peer="10.0.0.9:5000")
    lines.access(written.append, errors_only=False)(request, 200, 0.01, 100)
    answered = json.loads(written[0])
    assert (list(answered), answered["worker"]) == ([*OF_WORKER, *ACCESS[len(LINE) :]], 2)


def test_the_fields_of_an_access_line_are_pinned() -> None:
    """The access line has those and what is known of the request and its answer."""
    written: list[bytes] = []
    access = json_access(written.append, service="order", version="1", instance="order-1")
    access(mizzen.Request("GET", "/orders/7", context=Context()), 200, 0.01, 100)
    assert list(json.loads(written[0])) == ACCESS


def test_the_events_are_pinned() -> None:
    """Their names and fields are in log lines."""
    found = {
        name: " ".join(kind.__struct_fields__)
        for name, kind in ((name, getattr(events, name)) for name in events.__all__)
        if isinstance(kind, type) and issubclass(kind, events.Record) and kind is not events.Record
    }
    assert found == EVENTS


# -- frames: each costs every request


def _frames(until: Callable[[str, str], bool]) -> list[str]:
    """Names of the frames from the caller's caller up to the first of which ``until`` (module, function) is true."""
    frame = sys._getframe(2)
    found: list[str] = []
    while frame is not None:
        module, function = frame.f_globals.get("__name__", ""), frame.f_code.co_name
        if until(module, function):
            return found
        found.append(f"{module}.{function}")
        frame = frame.f_back  # type: ignore[assignment]
    raise AssertionError(f"not called from there: {found}")


def _of_mizzen(frames: list[str]) -> list[str]:
    return [frame.removeprefix("mizzen.") for frame in frames if frame.startswith("mizzen.")]


class Store:
    """A thing of the service."""


SERVED = 2
"""Frames of ours between the protocol and the user's function: edge and bound handler; the budget is 3."""
AT_ONCE = 3
"""The same where the function cannot wait: the edge has two then."""


@pytest.mark.parametrize("route", ["at_once", "plain", "path", "typed", "query", "body", "provided"])
def test_few_frames_stand_between_protocol_and_handler(route: str) -> None:
    """Every shape of handler is called through the same two frames, and by hand, without a task, through three."""
    seen: list[list[str]] = []

    def note() -> dict[str, int]:
        seen.append(_frames(lambda module, function: function in ("_answer", "offer")))
        return {}

    async def noted() -> dict[str, int]:
        return note()

    async def at_once() -> dict[str, int]:
        return note()

    async def plain() -> dict[str, int]:
        return await noted()

    async def path(id: str) -> dict[str, int]:
        return await noted()

    async def typed(id: int) -> dict[str, int]:
        return await noted()

    async def query(limit: int = 10) -> dict[str, int]:
        return await noted()

    async def body(values: dict[str, int]) -> dict[str, int]:
        return await noted()

    async def provided(store: Store) -> dict[str, int]:
        return await noted()

    async def main() -> None:
        service = mizzen.Service("order")
        service.provide(Store())
        service.router.get("/at_once", at_once)
        service.router.get("/plain", plain)
        service.router.get("/path/{id}", path)
        service.router.get("/typed/{id}", typed)
        service.router.get("/query", query)
        service.router.post("/body", body)
        service.router.get("/provided", provided)
        async with testing.client(service) as http:
            method, target, options = {
                "path": ("GET", "/path/7", {}),
                "typed": ("GET", "/typed/7", {}),
                "body": ("POST", "/body", {"json": {}}),
            }.get(route, ("GET", f"/{route}", {}))
            assert (await http.request(method, target, **options)).status == 200  # type: ignore[arg-type]

    run(main())
    [frames] = seen
    assert len(_of_mizzen(frames)) == (AT_ONCE if route == "at_once" else SERVED) <= 3, _of_mizzen(frames)


CALLED = [
    "rules.timeouts.send",
    "rules.retry.send",
    "rules.breaker.send",
    "assembly.peers.edge",
    "assembly.client.call",
]
"""Frames of ours between the user's call and the connection pool, innermost first; the design aims for 5."""


def test_the_frames_between_a_call_and_its_transport_are_known() -> None:
    """Each layer is one frame and nothing stands in between: more than today's is a regression."""
    seen: list[list[str]] = []

    async def main() -> None:
        service = mizzen.Service("order")
        user = service.client("user")

        async def calling() -> Response:
            return await user.get("/")

        async def sending(request: Request) -> Response:
            seen.append(_frames_to_user())
            return Response(204)

        service.router.get("/", calling)
        async with testing.client(service, peers={"user": mizzen.Service("user")}) as http:
            [endpoint] = http.running.peers["user"].balancer.endpoints
            endpoint.send = sending
            assert (await http.get("/")).status == 204

    def _frames_to_user() -> list[str]:
        return _frames(lambda module, function: function == "calling")

    run(main())
    assert _of_mizzen(seen[0]) == CALLED


def test_a_call_takes_no_task_and_one_timer_of_its_own() -> None:
    """The attempt's timer is the only one, and the whole call runs in its caller's task."""
    timers: list[int] = []
    tasks: list[int] = []

    def own() -> int:
        loop = asyncio.get_running_loop()
        return sum(not timer.cancelled() for timer in loop._scheduled)  # type: ignore[attr-defined]

    async def main() -> None:
        service = mizzen.Service("order")
        user = service.client("user")

        async def calling() -> Response:
            before, running = own(), len(asyncio.all_tasks())

            async def sending(request: Request) -> Response:
                timers.append(own() - before)
                tasks.append(len(asyncio.all_tasks()) - running)
                return Response(204)

            [endpoint] = http.running.peers["user"].balancer.endpoints
            endpoint.send = sending
            return await user.get("/")

        service.router.get("/", calling)
        async with testing.client(service, peers={"user": mizzen.Service("user")}) as http:
            assert (await http.get("/")).status == 204

    run(main())
    assert (timers, tasks) == ([1], [0])
