"""Observing: what one process tells of itself, as metrics, access lines and events."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import TYPE_CHECKING

from mizzen.edges.telemetry import (
    Histogram,
    Logs,
    Metrics,
    add_process_metrics,
    declare_peer,
    log_hook,
    metrics_hook,
    names,
    tell,
)
from mizzen.rules.events import Hook
from mizzen.words.message import Request
from mizzen.words.outcome import Outcome

if TYPE_CHECKING:
    from .peers import Peer


class Telemetry:
    """The metrics, the access log and the event hook of one process."""

    def __init__(self, service: str, *, version: str, logs: Logs | None = None) -> None:
        """Without ``logs`` there are no access lines; events go through ``logging`` either way."""
        self.metrics = metrics = Metrics()
        self.emit: Hook = tell([log_hook(), metrics_hook(metrics)])
        self._access = logs.access if logs is not None else None
        self._peers: dict[str, Peer] = {}
        self._served = metrics.add(names.SERVER_DURATION)
        self._called = metrics.add(names.CALL_DURATION)
        self._attempted = metrics.add(names.CLIENT_DURATION)
        self._retried = metrics.add(names.RETRIES)
        # A request finds its histogram by one look into a dict instead of through the family's labels.
        self._routes: dict[tuple[str, str, int], Histogram] = {}
        metrics.add(names.BUILD_INFO).labels(version, service, platform.python_version()).set(1)
        metrics.add(names.RETRY_BALANCE, function=lambda: self._each(lambda peer: peer.budget.balance(peer.clock())))
        metrics.add(names.SNAPSHOT_AGE, function=lambda: self._each(_age))
        metrics.add(names.ENDPOINTS, function=self._endpoints)
        if logs is not None:
            metrics.add(names.LINES_DROPPED, function=lambda: logs.outlet.dropped)
            add_process_metrics(metrics)

    def observe(self, request: Request, method: str, route: str, status: int, seconds: float, sent: int) -> None:
        """Count and log one answered request."""
        key = (method, route, status)
        histogram = self._routes.get(key)
        if histogram is None:
            histogram = self._routes[key] = self._served.labels(method, route, status)
        histogram.observe(seconds)
        if self._access is not None and request.context is not None:
            self._access(request.context, request.method, route, request.path, status, seconds, sent, request.peer)

    def active(self, count: Callable[[], int]) -> None:
        """Show ``count`` as the requests being answered."""
        self.metrics.add(names.SERVER_ACTIVE, function=count)

    def peer(self, peer: Peer) -> None:
        """Show the state of a peer's budget, breaker, endpoints and snapshot."""
        self._peers[peer.name] = peer
        declare_peer(self.metrics, peer.name)

    def call(self, peer: str, outcome: str, seconds: float) -> None:
        """Count one call with all its attempts."""
        self._called.labels(peer, outcome).observe(seconds)

    def attempt(self, request: Request, outcome: Outcome, seconds: float) -> None:
        """Count one attempt."""
        self._attempted.labels(request.peer, request.method, outcome.name).observe(seconds)

    def retried(self, peer: str, outcome: str) -> None:
        """Count one attempt after the first."""
        self._retried.labels(peer, outcome).inc()

    def _each(self, value: Callable[[Peer], float | None]) -> dict[tuple[str, ...], float]:
        found = {(name,): value(peer) for name, peer in self._peers.items()}
        return {key: number for key, number in found.items() if number is not None}

    def _endpoints(self) -> dict[tuple[str, ...], float]:
        return {
            (name, state): float(count) for name, peer in self._peers.items() for state, count in peer.balancer.states().items()
        }


def _age(peer: Peer) -> float | None:
    return peer.store.age(peer.clock())
