"""Observing: what one process tells of itself, as metrics, access lines and events."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from mizzen.edges.telemetry import (
    UNMATCHED,
    Family,
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
    from .outages import Outages
    from .peers import Peer

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})


class Telemetry:
    """The metrics, the access log and the event hook of one process."""

    def __init__(self, service: str, *, version: str, logs: Logs | None = None) -> None:
        """Without ``logs`` there are no access lines; events go through ``logging`` either way."""
        self.metrics = metrics = Metrics()
        self.emit: Hook = tell([log_hook(), metrics_hook(metrics)])
        self._access = _no_access if logs is None else logs.access
        self._peers: dict[str, Peer] = {}
        self._outages: Outages | None = None
        self._served: Family[Histogram] = metrics.add(names.SERVER_DURATION)
        self._called = metrics.add(names.CALL_DURATION)
        self._attempted = metrics.add(names.CLIENT_DURATION)
        self._retried = metrics.add(names.RETRIES)
        # A request finds its histogram by one look into a dict instead of through the family's labels.
        self._routes: dict[tuple[str, str, int], Histogram] = {}
        self._calls: dict[tuple[str, str], Histogram] = {}
        self._attempts: dict[tuple[str, str, str], Histogram] = {}
        metrics.add(names.BUILD_INFO).labels(version, service, sys.version.partition(" ")[0]).set(1)
        metrics.add(names.RETRY_BALANCE, function=lambda: self._each(lambda peer: peer.budget.balance(peer.clock())))
        metrics.add(names.SNAPSHOT_AGE, function=lambda: self._each(_age))
        metrics.add(names.SNAPSHOT_STATE, function=self._snapshots)
        metrics.add(names.SNAPSHOT_READS, function=lambda: self._each(lambda peer: peer.store.reads))
        metrics.add(names.SNAPSHOT_ERRORS, function=lambda: self._each(lambda peer: peer.store.errors))
        metrics.add(names.SNAPSHOT_HOLDS, function=lambda: self._each(lambda peer: peer.store.holds))
        metrics.add(names.ENDPOINTS, function=self._endpoints)
        if logs is not None:
            metrics.add(names.LINES_DROPPED, function=lambda: logs.outlet.dropped)
            add_process_metrics(metrics)

    def observe(self, request: Request, status: int, seconds: float, sent: int) -> None:
        """Count and log one answered request."""
        histogram = self._routes.get((request.method, request.route, status)) or self._histogram(request, status)
        histogram.observe(seconds)
        self._access(request, status, seconds, sent)

    def _histogram(self, request: Request, status: int) -> Histogram:
        """The histogram of a request; kept for the next one unless its method is an invention, of which there are many."""
        route = request.route or UNMATCHED
        if request.method not in _METHODS:
            return self._served.labels("_OTHER", route, status)
        histogram = self._routes[request.method, request.route, status] = self._served.labels(request.method, route, status)
        return histogram

    @property
    def outages(self) -> Outages:
        """What the users of a registry in this process tell their outages to."""
        if self._outages is None:
            from .outages import Outages  # by services that have somebody to find, or announce themselves

            self._outages = Outages(self.emit)
        return self._outages

    def active(self, count: Callable[[], int]) -> None:
        """Show ``count`` as the requests being answered."""
        self.metrics.add(names.SERVER_ACTIVE, function=count)

    def peer(self, peer: Peer) -> None:
        """Show the state of a peer's budget, breaker, endpoints and snapshot."""
        self._peers[peer.name] = peer
        declare_peer(self.metrics, peer.name)

    def call(self, peer: str, outcome: str, seconds: float) -> None:
        """Count one call with all its attempts."""
        histogram = self._calls.get((peer, outcome))
        if histogram is None:
            histogram = self._calls[peer, outcome] = self._called.labels(peer, outcome)
        histogram.observe(seconds)

    def attempt(self, request: Request, outcome: Outcome, seconds: float) -> None:
        """Count one attempt."""
        key = (request.peer, request.method, outcome.name)
        histogram = self._attempts.get(key)
        if histogram is None:
            histogram = self._attempts[key] = self._attempted.labels(*key)
        histogram.observe(seconds)

    def retried(self, peer: str, outcome: str) -> None:
        """Count one attempt after the first."""
        self._retried.labels(peer, outcome).inc()

    def _each(self, value: Callable[[Peer], float | None]) -> dict[tuple[str, ...], float]:
        found = {(name,): value(peer) for name, peer in self._peers.items()}
        return {key: number for key, number in found.items() if number is not None}

    def _snapshots(self) -> dict[tuple[str, ...], float]:
        return {
            (name, state): float(state == peer.store.state)
            for name, peer in self._peers.items()
            for state in names.SNAPSHOT_STATES
        }

    def _endpoints(self) -> dict[tuple[str, ...], float]:
        return {
            (name, state): float(count) for name, peer in self._peers.items() for state, count in peer.balancer.states().items()
        }


def _no_access(request: Request, status: int, seconds: float, sent: int) -> None:
    """Write no access line."""


def _age(peer: Peer) -> float | None:
    return peer.store.age(peer.clock())
