"""Router: which function answers which method and path. Routes are declared on a Router and looked up in a Table."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar, Unpack
from urllib.parse import unquote

from mizzen.words.clock import parse_duration
from mizzen.words.errors import Answer, BadRequest, StartError
from mizzen.words.handler import Layer
from mizzen.words.where import locate

T = TypeVar("T")

_PARAMETER = re.compile(r"\{([^{}:]*)(:[^{}]*)?\}")
_METHOD = re.compile(r"[A-Z][A-Z0-9_-]*")
_BROKEN = re.compile(r"%(?![0-9A-Fa-f]{2})")
_STATIC, _PARAM, _REST = "012"  # in the order in which they win
_ABSENT: Any = object()


class Route:
    """One method and path template, the function that answers it, and what holds for it alone."""

    __slots__ = (
        "function", "layers", "max_body", "method", "name", "parameters", "raises", "status", "template", "timeout", "where",
    )  # fmt: skip

    def __init__(
        self,
        method: str,
        template: str,
        function: Callable[..., Any],
        *,
        status: int = 200,
        raises: Sequence[type[Answer]] = (),
        timeout: str | float | None = None,
        max_body: int | None = None,
        layers: Sequence[Layer] = (),
    ) -> None:
        """``timeout`` in seconds or as ``"250ms"``, ``max_body`` in bytes; ``StartError`` when one of these cannot be."""
        self.method = method
        self.template = template
        self.function = function
        self.status = status
        """The status of an answer that is not a Response; None is answered with 204 while this is 200."""
        named: Any = raises  # not checked here but by binding, which knows the function
        self.raises: tuple[type[Answer], ...] = tuple(named) if hasattr(named, "__iter__") else (named,)
        """The answers that the function may raise, for the contract."""
        self.layers = tuple(layers)
        self.max_body = max_body
        self.where, self.name = locate(function)
        """Where the function stands, such as ``shop/order/__init__.py:14``, and what it is called."""
        self.parameters: tuple[str, ...] = tuple(name for name, _ in _PARAMETER.findall(template))
        """Names of the template's parameters, in order."""
        self.timeout = self._seconds(timeout)
        self._check()

    def _seconds(self, timeout: str | float | None) -> float | None:
        if timeout is None:
            return None
        try:
            seconds = parse_duration(timeout)
        except ValueError as error:
            raise self._error(f"the timeout of {self} cannot be: {error}") from None
        if seconds == 0:
            raise self._error(f"the timeout of {self} is 0: no request could be answered", fix="leave it out, or give it time")
        return seconds

    def _check(self) -> None:
        function: object = self.function
        if inspect.iscoroutine(function):
            function.close()  # or Python warns that it was never awaited, beside our own message
            raise self._error(f"{self} got a coroutine instead of a function", fix="hand over the function without calling it")
        if not callable(function):
            raise self._error(f"{self} got {function!r} instead of a function", fix="hand over the function that answers")
        if not _METHOD.fullmatch(self.method):
            raise self._error(f"{self.method!r} is not a method", fix='such as "GET" or "POST"')
        if self.max_body is not None and self.max_body < 0:
            raise self._error(f"the max_body of {self} is {self.max_body}", fix="a number of bytes, such as 1024 * 1024")
        layers: tuple[Any, ...] = self.layers
        if wrong := [layer for layer in layers if not callable(layer)]:
            raise self._error(f"{wrong[0]!r} among the layers of {self} is not a layer", fix="a layer takes a Handler")

    def _error(self, what: str, *, fix: str = "") -> StartError:
        return StartError(what, where=(self.line,), fix=fix)

    @property
    def line(self) -> str:
        """The route as a line of a message: where its function stands, method and template."""
        return f"{self.where}  {self}"

    def __str__(self) -> str:
        return f"{self.method} {self.template}"

    def __repr__(self) -> str:
        return f"<Route {self} -> {self.name} at {self.where}>"


class Options(TypedDict, total=False):
    """What may be said of a route beside its template and function."""

    status: int
    raises: Sequence[type[Answer]]
    timeout: str | float | None
    max_body: int | None
    layers: Sequence[Layer]


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


class Table(Generic[T]):
    """Finds what a method and path mean among entries that come with their routes; made once, then only read."""

    __slots__ = ("_methods",)

    def __init__(self, entries: Iterable[tuple[Route, T]]) -> None:
        """Raises ``StartError`` for a bad template and for two routes that answer the same paths."""
        methods: dict[str, list[tuple[Route, T]]] = {}
        for route, entry in entries:
            methods.setdefault(route.method, []).append((route, entry))
        self._methods = {method: _Paths(routes) for method, routes in methods.items()}

    def match(self, method: str, path: str) -> tuple[T, tuple[str, ...]] | None:
        """The entry for a percent-encoded path and its decoded parameters in the template's order; None without one.

        Literals win over parameters, parameters over a rest; HEAD falls back to GET. Raises ``BadRequest`` when a
        parameter cannot be decoded.
        """
        paths = self._methods.get(method)
        if paths is not None:
            found = paths.static.get(path) or paths.find(path)
            if found is not None:
                return found
        return self.match("GET", path) if method == "HEAD" else None

    def methods(self, path: str) -> tuple[str, ...]:
        """The methods of a path in alphabetical order, OPTIONS among them; () when there is no such path."""
        found = {method for method, paths in self._methods.items() if paths.has(path)}
        if not found:
            return ()
        if "GET" in found:
            found.add("HEAD")
        return tuple(sorted({*found, "OPTIONS"}))


class _Shape(NamedTuple):
    """Routes with literals and parameters in the same places: one look finds the one that a path means."""

    key: Callable[[list[str]], Any]
    """The segments in the places of literals."""
    leaves: dict[Any, Any]
    places: tuple[int, ...]
    """Where the parameters stand that take one segment."""
    rest: int
    """From where on a parameter takes the remainder; 0 without one."""


class _Paths(Generic[T]):
    """What one method answers.

    Routes are grouped by shape, and the shapes of each length stand in the order in which they win, so that the first
    that matches is the one that a walk with backtracking, literals first, would find.
    """

    __slots__ = ("_beyond", "_by_length", "static")

    def __init__(self, entries: Sequence[tuple[Route, T]]) -> None:
        self.static: dict[str, tuple[T, tuple[str, ...]]] = {}
        """Whole paths without a parameter, for the shortest way."""
        shapes: dict[str, _Shape] = {}
        routes: dict[tuple[str, Any], Route] = {}
        for route, entry in entries:
            segments, mask = _parse(route)
            shape = shapes.setdefault(mask, _shape(mask))
            key = shape.key(segments)
            if (mask, key) in routes:
                first = routes[mask, key]
                same = "is there twice" if first.template == route.template else f"answers the paths of {first}"
                raise StartError(f"{route} {same}", where=(first.line, route.line), fix="keep one of them")
            routes[mask, key] = route
            shape.leaves[key] = entry
            if not route.parameters:
                self.static[route.template] = (entry, ())
        masks = sorted(shapes)
        self._by_length = {
            length: tuple(
                shapes[mask] for mask in masks if len(mask) == length - 1 or (mask[-1] == _REST and len(mask) < length)
            )
            for length in range(2, max(map(len, masks)) + 2)
        }
        self._beyond = tuple(shapes[mask] for mask in masks if mask[-1] == _REST)
        """For paths longer than every template."""

    def find(self, path: str) -> tuple[T, tuple[str, ...]] | None:
        """The entry whose template has parameters, or a literal one that the caller encoded without need."""
        segments = path.split("/")
        if segments[0]:  # not a path: "*", or an authority
            return None
        broken = False
        if "%" in path:
            segments, broken = _decode(segments)
        for key, leaves, places, rest in self._by_length.get(len(segments), self._beyond):
            entry = leaves.get(key(segments), _ABSENT)
            if entry is _ABSENT:
                continue
            if rest:
                values = (*[segments[place] for place in places], "/".join(segments[rest:]))
                empty = "" in values[:-1]
            elif len(places) == 1:
                values = (segments[places[0]],)
                empty = not values[0]
            else:
                values = tuple([segments[place] for place in places])
                empty = "" in values
            if empty:
                continue
            if broken:  # no literal equals such a segment, so a parameter took it
                raise BadRequest("a percent-encoded part of the path is not UTF-8 text")
            return entry, values
        return None

    def has(self, path: str) -> bool:
        """Whether a path is answered; one that cannot be decoded is, with 400."""
        try:
            return path in self.static or self.find(path) is not None
        except BadRequest:
            return True


def _parse(route: Route) -> tuple[list[str], str]:
    """The decoded segments of a template behind an empty one, as those of a path, and the shape they make."""
    template = route.template

    def wrong(why: str, fix: str) -> StartError:
        return StartError(f"{template!r} is not a path template: {why}", where=(route.line,), fix=fix)

    if not template.startswith("/"):
        raise wrong("it does not begin with a slash", f'"/{template}"')
    if re.search(r"[?#\s]", template):
        raise wrong("a path has no ?, # or white space", "take what belongs to the query as a parameter of the function")
    if "//" in template:
        raise wrong("it has an empty segment", f'"{re.sub("/+", "/", template)}"')
    segments = template.split("/")
    mask = "".join(_kind(segment, wrong) for segment in segments[1:])
    if _REST in mask[:-1]:
        raise wrong("a parameter that takes the remainder is not its end", "move {rest:path} to the end")
    for name in route.parameters:
        if route.parameters.count(name) > 1:
            raise wrong(f"it has two parameters {{{name}}}", "give each a name of its own")
    literals, broken = _decode(segments)
    if broken:
        raise wrong("it has broken percent-encoding", "write the characters themselves")
    return literals, mask


def _kind(segment: str, wrong: Callable[[str, str], StartError]) -> str:
    if "{" not in segment and "}" not in segment:
        return _STATIC
    parameter = _PARAMETER.fullmatch(segment)
    if parameter is None:
        raise wrong(f"{segment} is not one whole parameter", 'a parameter takes a whole segment, as in "/files/{name}"')
    name, converter = parameter.groups()
    if not name.isidentifier():
        raise wrong(f"{name!r} cannot be the name of a parameter", "use a name that Python knows, such as {id}")
    if converter not in (None, ":path"):
        raise wrong(f"{segment} has a type", f"write {{{name}}}, and annotate {name} in the function")
    return _PARAM if converter is None else _REST


def _shape(mask: str) -> _Shape:
    # places count from 1, because a path's first segment is the nothing before its first slash
    literals = [place for place, kind in enumerate(mask, 1) if kind == _STATIC]
    key: Callable[[list[str]], Any] = itemgetter(*literals) if literals else lambda _: None
    places = tuple(place for place, kind in enumerate(mask, 1) if kind == _PARAM)
    return _Shape(key, {}, places, mask.find(_REST) + 1)


def _decode(segments: list[str]) -> tuple[list[str], bool]:
    """Segments without percent-encoding, and whether some had to be left as they were."""
    decoded, broken = [], False
    for segment in segments:
        try:
            if _BROKEN.search(segment):
                raise ValueError
            decoded.append(unquote(segment, errors="strict"))
        except ValueError:  # UnicodeDecodeError is one
            decoded.append(segment)
            broken = True
    return decoded, broken
