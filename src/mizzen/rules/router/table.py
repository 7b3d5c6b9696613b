"""Table: finds the route that a method and path mean, made once and then only read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, Generic, TypeVar

from mizzen.words.errors import BadRequest, StartError
from mizzen.words.lazy import pattern

from .route import PARAMETER, Route

T = TypeVar("T")

_BROKEN = pattern(r"%(?![0-9A-Fa-f]{2})")
_STATIC, _PARAM, _REST = "012"  # in the order in which they win
_ABSENT: Any = object()


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


_Shape = tuple[Callable[[list[str]], Any], dict[Any, Any], tuple[int, ...], int]
"""Routes with literals and parameters in the same places, among which one look finds the one that a path means.

A function that gives the segments in the places of literals, the entries by what it gives, where the parameters stand
that take one segment, and from where on a parameter takes the remainder; 0 without one.
"""


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
            literals_of, leaves, _, _ = shapes.setdefault(mask, _shape(mask))
            key = literals_of(segments)
            if (mask, key) in routes:
                first = routes[mask, key]
                same = "is there twice" if first.template == route.template else f"answers the paths of {first}"
                raise StartError(f"{route} {same}", where=(first.line, route.line), fix="keep one of them")
            routes[mask, key] = route
            leaves[key] = entry
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
    parameter = PARAMETER.fullmatch(segment)
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
    return key, {}, places, mask.find(_REST) + 1


def _decode(segments: list[str]) -> tuple[list[str], bool]:
    """Segments without percent-encoding, and whether some had to be left as they were."""
    if not any("%" in segment for segment in segments):
        return segments, False
    from urllib.parse import unquote  # with what it imports 2 ms of a start

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
