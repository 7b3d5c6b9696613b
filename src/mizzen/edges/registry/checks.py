"""Expiry of heartbeats, probes of HTTP and TCP checks, and the reaper of what stayed critical."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from urllib.parse import urlsplit

from mizzen.words.errors import CallError
from mizzen.words.handler import Handler
from mizzen.words.message import Call, Headers, Request

from .model import UNVERIFIED, Check
from .state import State

Connect = Callable[[str, int], Awaitable[None]]
"""Opens a TCP connection and closes it; raises ``OSError`` or ``CallError`` when it cannot be opened."""

TIMEOUT = 10.0
"""Seconds for a probe that says nothing of it; Consul's default."""
PROBES, LATER = 200, 1.0
"""Probes at once, and the seconds by which one more is put off: a bound on what they hold open."""
AGENT = "Consul Health Check"  # what Consul says it is: services log or exempt probes by it


class Checks:
    """Decides what is due, and probes it. ``OSError`` and ``CallError`` of a probe are its result."""

    def __init__(self, state: State, *, probe: Handler, connect: Connect | None) -> None:
        self._state = state
        self._probe = probe
        self._connect = connect
        self._under_way = 0

    def step(self) -> list[Check]:
        """Expire heartbeats, deregister what stayed critical too long; the checks to probe now."""
        now = self._state.clock()
        probes = []
        for check in self._state.timetable.due(now):
            if check.node.checks.get(check.spec.id) is not check:
                continue  # it went with its service, which another check of it ended
            reaped = check.reaped
            if reaped is not None and reaped <= now and check.service is not None:
                self._state.remove(check.service)
                continue
            if not check.probing and check.due is not None and check.due <= now:
                if check.spec.kind == "ttl":
                    self._expire(check)
                elif self._under_way < PROBES:
                    self._under_way += 1
                    check.probing = True  # from now on, not from when its task first runs
                    probes.append(check)
                else:
                    check.due = now + LATER
            self._state.timetable.plan(check)
        return probes

    def _expire(self, check: Check) -> None:
        check.due = None  # until the next beat
        last = f" (last output before timeout follows): {check.output}" if check.output else ""
        self._state.set_status(check, "critical", f"TTL expired{last}")

    async def examine(self, check: Check) -> None:
        """Probe one check and note the result."""
        seconds = check.spec.timeout or TIMEOUT
        try:
            async with asyncio.timeout(seconds):
                status, output = await (self._http(check) if check.spec.kind == "http" else self._tcp(check))
        except TimeoutError:
            status, output = "critical", f"no answer from {check.spec.target} in {seconds:g}s"
        except (OSError, CallError) as error:
            status, output = "critical", f"{type(error).__name__}: {error}"
        finally:
            self._under_way -= 1
            check.probing = False
            check.due = self._state.clock() + check.spec.interval
        if check.node.checks.get(check.spec.id) is check:  # it may have been replaced meanwhile
            self._count(check, status, output)
            self._state.timetable.plan(check)

    def _count(self, check: Check, status: str, output: str) -> None:
        """Let a result through once enough of its kind came in a row."""
        spec = check.spec
        if status != "critical":
            check.successes, check.failures = check.successes + 1, 0
            if check.successes >= spec.success_before_passing:
                self._state.set_status(check, status, output)
            return
        check.successes, check.failures = 0, check.failures + 1
        if check.failures >= spec.failures_before_critical:
            self._state.set_status(check, status, output)
        elif check.failures >= spec.failures_before_warning:
            self._state.set_status(check, "warning", output)

    async def _http(self, check: Check) -> tuple[str, str]:
        spec = check.spec
        parts = urlsplit(spec.target)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        headers = Headers({"host": f"{host}:{port}", "user-agent": AGENT, "accept": "text/plain, text/*, */*"})
        for name, values in spec.header.items():
            headers.remove(name)
            for value in values:
                headers.add(name, value)
        now = self._state.clock()
        seconds = spec.timeout or TIMEOUT
        call = Call(idempotent=True, timeout=seconds, started=now, deadline=now + seconds)
        request = Request(
            spec.method,
            parts.path or "/",
            query=parts.query,
            headers=headers,
            body=spec.body.encode(),
            peer=f"{UNVERIFIED if parts.scheme == 'https' and spec.unverified else parts.scheme}://{host}:{port}",
            call=call,
        )
        response = await self._probe(request)
        body = (await response.read()).decode("utf-8", "replace")
        status = "passing" if 200 <= response.status < 300 else "warning" if response.status == 429 else "critical"
        return status, f"HTTP {spec.method} {spec.target}: {_status_line(response.status)} Output: {body}"

    async def _tcp(self, check: Check) -> tuple[str, str]:
        parts = urlsplit(f"//{check.spec.target}")
        if self._connect is None:  # registrations of such checks are refused then
            raise TypeError("a TCP check without a way to open connections")
        await self._connect(parts.hostname or "", parts.port or 0)
        return "passing", f"TCP connect {check.spec.target}: Success"


def _status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
