"""The platform's questions: /live, /ready, /health and /metrics, answered in every state."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

from mizzen.edges.telemetry import Metrics
from mizzen.rules.health import Health
from mizzen.rules.router import Route, Router
from mizzen.words.handler import Handler
from mizzen.words.message import Request, Response

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PATHS = ("/live", "/ready", "/health", "/metrics")


class State(Enum):
    """Where a service is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    LINGERING = "lingering"
    DRAINING = "draining"
    CLOSED = "closed"


class Crew(Protocol):
    """The workers that answer as one instance, as one of them or their supervisor knows it."""

    def state(self) -> State: ...
    def waiting(self) -> list[str]: ...
    def health(self, own: dict[str, Any]) -> dict[str, Any]:
        """The body of ``/health``, made of that of the process that is asked."""
        ...

    async def metrics(self) -> bytes:
        """The page with everybody's metrics."""
        ...


class Probes:
    """Answers for one instance; they look at what is known already and never do work of their own."""

    def __init__(
        self,
        *,
        state: Callable[[], State],
        health: Health,
        waiting: Callable[[], list[str]],
        about: dict[str, str],
        metrics: Metrics,
        discovery: Callable[[], dict[str, Any]],
        crew: Crew | None = None,
    ) -> None:
        """A ``crew`` answers for its state: who asks does not choose which of the processes he is answered by."""
        self._state = state if crew is None else crew.state
        self._health = health
        self._waiting = waiting if crew is None else crew.waiting
        self._crew = crew
        self._about = about
        self._metrics = metrics
        self._discovery = discovery

    def routes(self) -> list[tuple[Route, Handler]]:
        """The probes as routes, which go through the edge like any other and are counted there."""
        router = Router()
        handlers: dict[str, Handler] = {}
        metrics = self.metrics if self._crew is None else self.crew_metrics
        for path, handler in zip(PATHS, (self.live, self.ready, self.health, metrics), strict=True):
            router.get(path, handler)
            handlers[path] = handler
        return [(route, handlers[route.template]) for route in router.routes]

    async def live(self, request: Request) -> Response:
        """200 while the process can answer at all: it depends on nothing else."""
        return Response.json_of({"status": "live", "state": self._state().value})

    async def ready(self, request: Request) -> Response:
        """200 while serving; it does not follow dependencies, so that a shared one cannot take every instance out."""
        state = self._state()
        ready = state is State.SERVING
        body: dict[str, Any] = {"status": "ready" if ready else "not ready", "state": state.value}
        if state is State.STARTING:
            body["waiting_for"] = self._waiting()
        return Response.json_of(body, 200 if ready else 503)

    async def health(self, request: Request) -> Response:
        """The verdict and every check: 503 while a required dependency is down or the service is not serving."""
        state = self._state()
        report = self._health.report()
        body: dict[str, Any] = {**report, **self._about, "state": state.value, "discovery": self._discovery()}
        if self._crew is not None:
            body = self._crew.health(body)
        if state is State.STARTING:
            body["waiting_for"] = self._waiting()
        if state is not State.SERVING:
            body["status"] = "unavailable"
        return Response.json_of(body, 503 if body["status"] == "unavailable" else 200)

    async def metrics(self, request: Request) -> Response:
        """Every metric of the process in Prometheus' text format."""
        return Response(200, self._metrics.render(), content_type=METRICS_TYPE)

    async def crew_metrics(self, request: Request) -> Response:
        """Every metric of every worker, added up."""
        if self._crew is None:
            return await self.metrics(request)
        return Response(200, await self._crew.metrics(), content_type=METRICS_TYPE)
