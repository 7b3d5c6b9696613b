"""Apps: the ASGI apps that are mounted in a running service: their lifespans, where they answer, and their end."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import unquote

from msgspec import Struct

from mizzen.edges.asgi.fit import APP, fit
from mizzen.edges.asgi.inward import Inward
from mizzen.edges.asgi.lifespan import Lifespan, StartupFailed
from mizzen.edges.asgi.names import Names
from mizzen.rules.router import Route, Table
from mizzen.words.errors import StartError
from mizzen.words.message import Request

from .edge import Leaf
from .load import placed
from .probes import PATHS
from .service import Provided

log = logging.getLogger("mizzen.runtime")


class Mounted(Struct, frozen=True):
    """An app and where it answers: everything below its prefix that no route of the service's own does."""

    prefix: str
    """Such as ``/legacy``; empty for everything."""
    app: Any
    route: Route
    """What holds for its requests."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"the app at {self.prefix or '/'}"


def mounted(path: str, app: Any, *, service: str, timeout: str | float | None, max_body: int | None) -> Mounted:
    """Check what ``service`` mounts; ``StartError`` for what is no app, or cannot be mounted there."""
    prefix = path.removesuffix("/")
    if prefix and (not prefix.startswith("/") or "//" in prefix or any(sign in prefix for sign in "{}?#% ")):
        raise StartError(
            f"{service} mounts an app at {path!r}, which is no path to mount at",
            fix='a literal path such as "/legacy", or "/" for all that no route answers',
        )
    kind, why = fit(app)
    if kind != APP:
        raise StartError(
            f"{service} mounts {app!r} at {path!r}, which is no ASGI 3 app: {why or 'it makes one when it is called'}",
            fix="mount what takes scope, receive and send" + ("" if why else "; call it first"),
        )
    route = Route("GET", f"{prefix}/{{path:path}}", app, timeout=timeout, max_body=max_body)
    return Mounted(prefix, app, route)


def shown(each: Mounted) -> list[dict[str, Any]]:
    """The routes of an app, as far as it shows them, and last what takes the rest; for people and tools."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for named in Names(each.app, root=each.prefix).all():
        template, methods = each.prefix + named.template, ",".join(named.methods) or "*"
        endpoint = named.endpoint
        handler = f"{getattr(endpoint, '__module__', '')}.{getattr(endpoint, '__qualname__', type(endpoint).__name__)}"
        rows[methods, template] = {"method": methods, "template": template, "handler": handler, "where": "", "status": 200}
    rest = each.route
    handler = f"{type(each.app).__module__}.{type(each.app).__name__}"
    row = {"method": "*", "template": rest.template, "handler": handler, "where": "", "status": 200}
    return [*rows.values(), row]


class Apps:
    """The apps of one running service."""

    def __init__(
        self, service: str, apps: Sequence[Mounted], *, body: int, timeout: float, accepted: Callable[[Request], None]
    ) -> None:
        """``body`` and ``timeout`` hold where an app was not given its own; ``accepted`` is told of every WebSocket."""
        self._service = service
        self._timeout = timeout
        self._inward = [
            (each, Inward(each.app, root=each.prefix, message=each.route.max_body or body, accepted=accepted)) for each in apps
        ]

    def lifespans(self) -> list[Provided]:
        """What is opened before the service serves and closed after it has, as other provided things are."""
        return [
            Provided(type(each.name, (), {}), None, partial(self._live, each, inward), None, True)
            for each, inward in self._inward
        ]

    @asynccontextmanager
    async def _live(self, each: Mounted, inward: Inward) -> AsyncIterator[Inward]:
        try:
            async with Lifespan(each.app, name=each.name) as inward.state:
                yield inward
        except StartupFailed as failed:
            raise self._blamed(each, failed) from failed

    def _blamed(self, each: Mounted, failed: StartupFailed) -> StartError:
        cause, said = failed.__cause__, str(failed).strip()
        log.critical("%s failed to start: %s", each.name, said, exc_info=cause)
        doing = f"{self._service} cannot start: the lifespan of {each.name}"
        if isinstance(cause, Exception) and said.startswith("Traceback"):  # which says the same at length
            return placed(cause, doing)
        return StartError(f"{doing} failed: {said}")

    def table(self, entries: Iterable[tuple[Route, Leaf]], *, probes: bool) -> Table[Leaf]:
        """The service's own routes, and behind them the apps; ``probes`` says whether the platform's paths are taken."""
        if probes:
            self._warn_of_probes()
        leaves = []
        for each, inward in self._inward:
            timeout = self._timeout if each.route.timeout is None else each.route.timeout
            leaves.append((each.prefix, Leaf(each.route, inward.answer, True, timeout, False, each.route.template)))
        return AppTable(entries, leaves)

    def _warn_of_probes(self) -> None:
        for each, inward in self._inward:
            own = {each.prefix + named.template for named in inward.names.all() if not named.methods or "GET" in named.methods}
            for path in sorted(own.intersection(PATHS)):
                log.warning(
                    "GET %s of %s is not asked: the platform's question is answered here for the whole service; to free the "
                    "path set services.%s.admin.port, which moves the platform's questions to a port of their own",
                    path, each.name, self._service,
                )  # fmt: skip

    async def finish(self, seconds: float) -> int:
        """Wait for what goes on behind answers that are out, cut it off after ``seconds``; how many were cut off."""
        return sum([await inward.finish(seconds) for _, inward in self._inward])

    def __repr__(self) -> str:
        return f"<Apps {', '.join(map(repr, self._inward))}>"


class AppTable(Table[Leaf]):
    """A table of routes with apps behind it, which get what no route answers; the longest prefix wins."""

    __slots__ = ("_apps",)

    def __init__(self, entries: Iterable[tuple[Route, Leaf]], apps: Iterable[tuple[str, Leaf]]) -> None:
        super().__init__(entries)
        by_length = sorted(apps, key=lambda each: -len(each[0]))
        self._apps = [(prefix, f"{prefix}/", prefix.split("/"), leaf) for prefix, leaf in by_length]

    def match(self, method: str, path: str) -> tuple[Leaf, tuple[str, ...]] | None:
        found = super().match(method, path)
        if found is None and path[:1] == "/":
            for prefix, below, segments, leaf in self._apps:
                if path == prefix or path.startswith(below):
                    return leaf, ()
                # as routes do: segment by segment, so that an encoded slash does not make two of one
                if "%" in path and [unquote(each) for each in path.split("/")[: len(segments)]] == segments:
                    return leaf, ()
        return found
