"""Service: a declaration without I/O of what a service provides, calls and answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from mizzen.rules.binding import Plan, plan
from mizzen.rules.router import Route, Router, Table
from mizzen.words.clock import parse_duration
from mizzen.words.errors import StartError
from mizzen.words.handler import CLIENT_ORDER, SERVER_ORDER
from mizzen.words.lazy import pattern
from mizzen.words.outcome import Classifier, classify

if TYPE_CHECKING:
    from .apps import Mounted  # loaded by services that mount some
    from .client import Client

Factory = Callable[[], AbstractAsyncContextManager[Any]]
CheckFunction = Callable[[Any], Awaitable[None] | None]
"""Looks at an opened thing and raises when it cannot be used."""

_NAME = pattern(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class Provided(Struct, frozen=True):
    """A thing that handlers take by its type."""

    type: type
    value: Any
    factory: Factory | None
    check: CheckFunction | None
    required: bool

    @property
    def name(self) -> str:
        return self.type.__name__


class OwnCheck(Struct, frozen=True):
    """A check of the service's own, beside those of provided things and peers."""

    name: str
    function: Callable[[], Awaitable[None] | None]
    required: bool


class Service:
    """A named deployable, declared: the same object is run by a process, by a test's memory or under another server."""

    def __init__(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise StartError(
                f"{name!r} is not a service name",
                fix='lower-case letters, digits and single dashes, such as "order" or "stock-keeper"',
            )
        self.name = name
        self.router = Router()
        self.provided: dict[type, Provided] = {}
        self.clients: dict[str, Client] = {}
        self.checks: list[OwnCheck] = []
        self.apps: list[Mounted] = []
        self._planned: tuple[tuple[list[Route], set[type]], list[tuple[Route, Plan]]] | None = None

    def provide(
        self, what: Any, factory: Factory | None = None, *, check: CheckFunction | None = None, required: bool = True
    ) -> None:
        """Offer a value, or a type with a factory (an async context manager), to every handler that asks for its type.

        ``check`` looks at the opened thing for ``/health``; with ``required=False`` its failure is only reported.
        """
        if factory is None:
            if isinstance(what, type):
                raise StartError(
                    f"{self.name} provides the type {what.__name__} without saying how it is made",
                    fix=f"service.provide({what.__name__}, factory) with an async context manager, or give a value",
                )
            thing = Provided(type(what), what, None, check, required)
        elif isinstance(what, type) and callable(factory):
            thing = Provided(what, None, factory, check, required)
        else:
            raise StartError(
                f"{self.name} provides {what!r} with a factory, but it is not a type",
                fix="service.provide(SomeType, factory) or service.provide(value)",
            )
        if thing.type.__module__ == "builtins":
            raise StartError(
                f"{self.name} provides a {thing.name}, which no handler can ask for: that type means an input",
                fix="wrap it in a class of your own",
            )
        if thing.type in self.provided:
            raise StartError(f"{self.name} provides {thing.name} twice", fix="provide each type once")
        self.provided[thing.type] = thing

    def mount(self, register_handlers: Callable[[Router], None], *, prefix: str = "") -> None:
        """Add a domain: its package's ``register_handlers`` is called with a router."""
        self.router.mount(register_handlers, prefix=prefix)

    def mount_app(self, path: str, app: Any, *, timeout: str | float | None = None, max_body: int | None = None) -> None:
        """Answer everything below ``path`` that no route answers by an ASGI app; ``"/"`` for all that is left.

        Its lifespan runs after everything provided was opened and before that is closed. ``timeout`` (seconds or
        ``"250ms"``) until the head of an answer and ``max_body`` (bytes, of a WebSocket's message too) replace the
        server's. Raises ``StartError`` for what is no ASGI 3 app, and for two at one path.
        """
        from .apps import mounted

        added = mounted(path, app, service=self.name, timeout=timeout, max_body=max_body)
        if any(each.prefix == added.prefix for each in self.apps):
            raise StartError(f"{self.name} mounts two apps at {path!r}", fix="mount each at a path of its own")
        self.apps.append(added)

    def client(
        self,
        name: str,
        *,
        required: bool = False,
        timeout: str | float | None = None,
        retries: int | None = None,
        classify: Classifier = classify,
    ) -> Client:
        """A handle on the service of that name, connected when this service starts.

        A required peer is a required check of ``/health``, and is started first by ``mizzen dev``. ``timeout`` in
        seconds or as ``"800ms"``, and ``retries``, are defaults that ``[services.*.clients.*]`` in mizzen.toml overrides.
        """
        if name in self.clients:
            raise StartError(f"{self.name} declares the client {name!r} twice", fix="declare it once and hand it on")
        if retries is not None and retries < 0:
            raise StartError(f"the client {name!r} of {self.name} has {retries} retries", fix="0 for none, or leave it out")
        from .client import Client  # half of what there is to import is for calling: a service without clients has none of it

        client = Client(name, required=required, timeout=self._seconds(name, timeout), retries=retries, classify=classify)
        self.clients[name] = client
        return client

    def _seconds(self, client: str, timeout: str | float | None) -> float | None:
        if timeout is None:
            return None
        try:
            seconds = parse_duration(timeout)
        except ValueError as error:
            raise StartError(f"the timeout of the client {client!r} of {self.name} cannot be: {error}") from None
        if seconds == 0:
            what = f"the timeout of the client {client!r} of {self.name} is 0: no call could be answered"
            raise StartError(what, fix="leave it out, or give it time")
        return seconds

    def check(self, name: str, function: Callable[[], Awaitable[None] | None], *, required: bool = True) -> None:
        """Add a check of ``/health`` that belongs to no provided thing; it raises to fail."""
        self.checks.append(OwnCheck(name, function, required))

    def plans(self, also: Collection[type] = ()) -> list[tuple[Route, Plan]]:
        """Every route with its binding, all of them checked; ``StartError`` names what is wrong and where.

        ``also`` are types that a test provides on top.
        """
        types = {*self.provided, *also}
        try:
            self._check_names()
            declared = (self.router.routes[:], types)
            if self._planned is None or self._planned[0] != declared:
                plans = [(route, plan(route, types)) for route in self.router.routes]
                Table(plans)
                self._planned = (declared, plans)  # asked once when a service is loaded, and again when it runs
        except StartError as error:
            raise StartError(f"{self.name} cannot start: {error.what}", where=error.where, fix=error.fix) from None
        return self._planned[1]

    def _check_names(self) -> None:
        """Every line of ``/health`` needs a name of its own."""
        checked = [thing.name for thing in self.provided.values() if thing.check is not None]
        names = [*checked, *(own.name for own in self.checks), *self.clients]
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise StartError(
                f"two checks are called {twice[0]!r}: /health could not tell them apart",
                fix="a check is called like its client or type, or as service.check says: rename one",
            )

    def required_peers(self) -> list[str]:
        """Names of the services that must be up before this one serves."""
        return [name for name, client in self.clients.items() if client.required]

    def describe(self) -> Mapping[str, Any]:
        """Routes, stacks, clients and provided things, for people and tools."""
        return {
            "name": self.name,
            "routes": [
                {
                    "method": route.method,
                    "template": route.template,
                    "handler": f"{route.function.__module__}.{route.name}",
                    "where": route.where,
                    "status": route.status,
                }
                for route in self.router.routes
            ]
            + self._app_routes(),
            "stack": [{"layer": place.name, "why": place.why} for place in SERVER_ORDER],
            "provided": [thing.name for thing in self.provided.values()],
            "clients": {
                name: {
                    "stack": [{"layer": place.name, "why": place.why} for place in CLIENT_ORDER if place.name != "hedge"],
                    "settings": client.settings(),
                    "required": client.required,
                }
                for name, client in self.clients.items()
            },
        }

    def _app_routes(self) -> list[dict[str, Any]]:
        if not self.apps:
            return []
        from .apps import shown

        return [row for each in self.apps for row in shown(each)]

    def __repr__(self) -> str:
        return f"<Service {self.name}: {len(self.router.routes)} routes, clients {', '.join(self.clients) or 'none'}>"
