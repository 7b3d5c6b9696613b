"""Router: where a domain declares its routes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Unpack

from mizzen.words.errors import StartError
from mizzen.words.handler import Layer

from .route import Options, Route


class Router:
    """Collects the routes of a domain, or of a service made of domains."""

    def __init__(self) -> None:
        self.routes: list[Route] = []
        """Every route added here and through mounted domains, in that order."""
        self._prefix = ""
        self._layers: tuple[Layer, ...] = ()
        self._parent: Router | None = None

    def get(self, template: str, function: Callable[..., Any], **options: Unpack[Options]) -> None:
        """Answer GET, and HEAD unless a route of its own does; see :meth:`route` for the options."""
        self.route("GET", template, function, **options)

    def post(self, template: str, function: Callable[..., Any], **options: Unpack[Options]) -> None:
        """Answer POST; see :meth:`route` for the options."""
        self.route("POST", template, function, **options)

    def put(self, template: str, function: Callable[..., Any], **options: Unpack[Options]) -> None:
        """Answer PUT; see :meth:`route` for the options."""
        self.route("PUT", template, function, **options)

    def patch(self, template: str, function: Callable[..., Any], **options: Unpack[Options]) -> None:
        """Answer PATCH; see :meth:`route` for the options."""
        self.route("PATCH", template, function, **options)

    def delete(self, template: str, function: Callable[..., Any], **options: Unpack[Options]) -> None:
        """Answer DELETE; see :meth:`route` for the options."""
        self.route("DELETE", template, function, **options)

    def head(self, template: str, function: Callable[..., Any], **options: Unpack[Options]) -> None:
        """Answer HEAD where GET's answer without its body will not do; see :meth:`route` for the options."""
        self.route("HEAD", template, function, **options)

    def options(self, template: str, function: Callable[..., Any], **options: Unpack[Options]) -> None:
        """Answer OPTIONS where a list of the path's methods will not do; see :meth:`route` for the options."""
        self.route("OPTIONS", template, function, **options)

    def route(self, method: str, template: str, function: Callable[..., Any], **options: Unpack[Options]) -> None:
        """Answer ``method`` on every path of the form ``template`` with ``function``.

        A template is literal but for whole segments such as ``{id}``, and ``{rest:path}`` at its end, which takes the
        remainder with its slashes. ``status`` is that of a plain answer, ``raises`` names the answers that the
        function may raise, ``timeout`` (seconds or ``"250ms"``) and ``max_body`` (bytes) replace the server's,
        ``layers`` stand around the function, outermost first. Raises ``StartError``.
        """
        options["layers"] = (*self._layers, *options.get("layers", ()))
        self._add(Route(method.upper(), self._prefix + template, function, **options))

    def use(self, layer: Layer) -> None:
        """Put ``layer`` around every route of this router and of the domains mounted on it, inside of earlier ones.

        Raises ``StartError`` once there are routes: those would go without it.
        """
        if self.routes:
            first = self.routes[0]
            raise StartError(
                f"a layer is used after routes were added: {first} would go without it",
                where=(first.line,),
                fix="call router.use(...) before the first route and the first mount",
            )
        self._layers = (*self._layers, layer)

    def mount(self, register_handlers: Callable[[Router], object], *, prefix: str = "") -> None:
        """Add a domain: ``register_handlers`` gets a router whose routes begin with ``prefix`` and land here.

        Raises ``StartError`` for what cannot be called, and for a prefix that is not like ``/shop``.
        """
        name = getattr(register_handlers, "__name__", repr(register_handlers))
        if not callable(register_handlers):
            raise StartError(f"{name} cannot be mounted: it is not a function", fix=f"mount({name}.register_handlers)")
        if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
            raise StartError(f"{prefix!r} is not a prefix", fix='it begins with a slash and ends without, such as "/shop"')
        domain = Router()
        domain._prefix, domain._layers, domain._parent = self._prefix + prefix, self._layers, self
        result = register_handlers(domain)
        if inspect.iscoroutine(result):
            result.close()
            raise StartError(f"{name} is async: nobody awaits it", fix="make it def: it only declares routes")

    def _add(self, route: Route) -> None:
        self.routes.append(route)
        if self._parent is not None:
            self._parent._add(route)

    def __repr__(self) -> str:
        return f"<Router{self._prefix and ' ' + self._prefix}: {len(self.routes)} routes>"
