"""Where each setting came from: its place in the file, or its variable; and how mistakes in them are told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from mizzen.words.errors import ConfigError

Path = tuple[str | int, ...]
"""A place in a document: keys, and positions in arrays."""

PREFIX = "MIZZEN"
"""Variables are ``MIZZEN__TABLE__KEY``; two underscores, since names have single ones."""


class Wrong(Struct, frozen=True):
    """One mistake: the setting, what is wrong with it, and the right spelling where there is a near one."""

    path: Path
    reason: str
    instead: str = ""
    variable: str = ""
    """The variable at fault, when it names no place that could have an origin."""


class Source:
    """The merged but untyped settings of one file and one environment, with the origin of each."""

    __slots__ = ("_origins", "_text", "file", "texts", "tree")

    def __init__(self, file: str = "mizzen.toml", tree: dict[str, Any] | None = None, text: str = "") -> None:
        self.file = file
        self.tree: dict[str, Any] = {} if tree is None else tree
        self._text = text
        self._origins: dict[Path, str] = {}
        self.texts: set[Path] = set()
        """Paths whose value is a variable's text, which may stand for a number or a flag."""

    @property
    def origins(self) -> dict[Path, str]:
        """``mizzen.toml:14`` or the name of a variable, by path."""
        text, self._text = self._text, ""
        if text:
            from .lines import key_lines  # nobody asks where a setting stands that is right

            lines = {path: f"{self.file}:{line}" for path, line in key_lines(text).items()}
            self._origins = lines | self._origins
        return self._origins

    def origin(self, path: Path) -> str:
        """Where that setting, or else the nearest table around it, was written."""
        if path not in self.origins:  # a table that is only there because something in it is set
            for inner, origin in self.origins.items():
                if inner[: len(path)] == path:
                    return origin
        for end in range(len(path), 0, -1):
            if path[:end] in self.origins:
                return self.origins[path[:end]]
        return self.file

    def given(self, path: Path) -> bool:
        """Whether file or environment say something about that very setting."""
        value: Any = self.tree
        for key in path:
            if not isinstance(value, dict) or key not in value:
                return False
            value = value[key]
        return True

    def set_text(self, path: Path, text: str, variable: str) -> None:
        """Put a variable's text at ``path``; ``ValueError`` when a value stands where a table is needed."""
        table: dict[Any, Any] = self.tree
        for key in path[:-1]:
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise ValueError(f"{dotted(path[:-1])} is a value in {self.file}, not a table")
        if isinstance(table.get(path[-1]), dict):
            raise ValueError(f"{dotted(path)} is a table; a variable names one of its keys")
        table[path[-1]] = text
        self._origins[path] = variable
        self.texts.add(path)

    def copy(self) -> Source:
        """Another source with the same origins, to be added to."""
        twin = Source(self.file, self.tree, self._text)
        twin._origins, twin.texts = dict(self._origins), set(self.texts)
        return twin

    def __repr__(self) -> str:
        return f"<Source {self.file}: {len(self.origins)} origins, {len(self.texts)} of them variables>"


def variable(*path: str) -> str:
    """The name of the variable that sets the key at ``path``."""
    return "__".join([PREFIX, *(normal(part).upper() for part in path)])


def short_variable(*path: str) -> str | None:
    """The shorter name of the same, which begins with the service's; None where there is none."""
    if len(path) < 3 or path[0] != "services" or normal(path[1]).upper() == PREFIX:
        return None
    return "__".join(normal(part).upper() for part in path[1:])


def normal(name: str) -> str:
    """A name as variables spell it, in lower case: dashes are underscores."""
    return name.replace("-", "_").lower()


def dotted(path: Sequence[str | int]) -> str:
    """A path as people write it: ``services.order.settings.hosts[1]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def nearest(name: str, names: Iterable[str]) -> str:
    """The nearest right spelling, or nothing when none is near."""
    from difflib import get_close_matches  # only ever needed for an error

    known = {normal(known): known for known in names}
    found = get_close_matches(normal(name), known, n=1, cutoff=0.6)
    return known[found[0]] if found else ""


def mistakes(wrong: Sequence[Wrong], source: Source, *, fix: str = "") -> ConfigError:
    """All mistakes as one error that names each with its origin."""
    lines = []
    for mistake in sorted(wrong, key=lambda mistake: _order(mistake.variable or source.origin(mistake.path))):
        origin = mistake.variable or source.origin(mistake.path)
        lines.append(f"{origin}  {dotted(mistake.path)}{'' if mistake.reason.startswith(' ') else ': '}{mistake.reason}")
    if not fix and len(wrong) == 1 and wrong[0].instead:
        fix = f"write {wrong[0].instead}"
    what = "a setting is wrong" if len(wrong) == 1 else f"{len(wrong)} settings are wrong"
    return ConfigError(what, where=lines, fix=fix or "correct what is named above")


def _order(origin: str) -> tuple[str, int]:
    """Mistakes stand in the order of the file."""
    file, _, line = origin.rpartition(":")
    return (file, int(line)) if line.isdigit() else (origin, 0)
