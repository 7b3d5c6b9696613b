"""Lazily: what would make importing slow is done when somebody asks for it: the names of a package, regular expressions.

A package that gathers names from many modules would load all of them for one name (PEP 562 is the way out). A process
that starts pays for each module, a tenth of a millisecond for an empty one, and ``mizzen run`` needs half of ours.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, AnyStr, cast


def lazily(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of ``package``, for which ``modules`` says which module (relative) has which names.

    The type checker is told the same by imports under ``TYPE_CHECKING``. No name may be that of a module in the
    package: importing the module would put it in the name's place.
    """
    places = {name: module for module, names in modules.items() for name in names.split()}

    def find(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=sys.modules[package])
        value = getattr(importlib.import_module(places[name], package), name)
        setattr(sys.modules[package], name, value)  # the next one who asks finds it at once
        return value

    return find


def pattern(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """A regular expression that is compiled when it is first used: that takes 0.1 to 0.5 ms, and most are for mistakes."""
    return cast("re.Pattern[AnyStr]", _Pattern(text, flags))


class _Pattern:
    """Becomes the compiled pattern's methods one by one, as they are asked for."""

    def __init__(self, text: Any, flags: int) -> None:
        self._given = (text, flags)

    def __getattr__(self, name: str) -> Any:
        value = getattr(re.compile(*self._given), name)
        setattr(self, name, value)  # from now on as quick as the pattern's own
        return value

    def __repr__(self) -> str:
        return f"pattern({self._given[0]!r})"
