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

AGENT = "Consul Health Check"  # what Consul says it is: services log or exempt probes by it


class Checks:
    """Decides what is due, and probes it. ``OSError`` and ``CallError`` of a probe are its result."""

    def __init__(self, state: State, *, probe: Handler, connect: Connect | None) -> None:
        self._state = state
        self._probe = probe
        self._connect = connect

    def step(self) -> list[Check]:
        """Expire heartbeats, deregister what stayed critical too long; the checks to probe now."""
        now = self._state.clock()
        for check in list(self._state.checks.values()):
            if check.spec.kind == "ttl" and check.due is not None and check.due <= now:
                check.due = None  # until the next beat
                last = f" (last output before timeout follows): {check.output}" if check.output else ""
                self._state.set_status(check, "critical", f"TTL expired{last}")
        for service in list(self._state.services.values()):
            critical = [check for check in service.checks.values() if check.status == "critical" and check.spec.forget_after]
            if any(now - check.since >= check.spec.forget_after for check in critical):
                self._state.remove(service)
        return [check for check in self._state.checks.values() if self._due(check, now)]

    def _due(self, check: Check, now: float) -> bool:
        probed = check.spec.kind in ("http", "tcp")
        return probed and not check.probing and check.due is not None and check.due <= now

    async def examine(self, check: Check) -> None:
        """Probe one check and note the result."""
        check.probing = True
        try:
            async with asyncio.timeout(check.spec.timeout):
                status, output = await (self._http(check) if check.spec.kind == "http" else self._tcp(check))
        except TimeoutError:
            status, output = "critical", f"no answer from {check.spec.target} in {check.spec.timeout:g}s"
        except (OSError, CallError) as error:
            status, output = "critical", f"{type(error).__name__}: {error}"
        finally:
            check.probing = False
            check.due = self._state.clock() + check.spec.interval
        if self._state.checks.get(check.spec.id) is check:  # it may have been replaced meanwhile
            self._count(check, status, output)

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
        call = Call(idempotent=True, timeout=spec.timeout, started=now, deadline=now + spec.timeout)
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
    return f"{status} {HTTPStatus(status).phrase}" if status in HTTPStatus._value2member_map_ else str(status)
