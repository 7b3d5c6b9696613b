"""Names that are imported and patterns that are compiled when somebody asks for them."""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from pathlib import Path

import pytest

from mizzen.words.lazy import lazily, pattern

LAZY = ("mizzen", "mizzen.edges.http", "mizzen.edges.resolvers", "mizzen.edges.telemetry", "mizzen.rules.config")
"""Packages whose names are found lazily."""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with one lazy name, in a module that counts how often it is loaded."""
    folder = tmp_path / "lazypackage"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from mizzen.words.lazy import lazily\n__getattr__ = lazily(__name__, {'.things': 'One Two', '.broken': 'Three'})\n"
    )
    (folder / "things.py").write_text("One, Two = object(), object()\n")
    (folder / "broken.py").write_text("raise RuntimeError('broken')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("lazypackage", "lazypackage.things", "lazypackage.broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "lazypackage"


def test_a_name_is_imported_when_it_is_asked_for(package: str) -> None:
    """Its module is loaded by the first one who asks, and the name is the package's own from then on."""
    module = importlib.import_module(package)
    assert "lazypackage.things" not in sys.modules
    one = module.One
    assert one is sys.modules["lazypackage.things"].One
    assert vars(module)["One"] is one
    assert "Two" not in vars(module)


def test_a_name_that_is_not_there(package: str) -> None:
    """It is an AttributeError that names it, as for any module."""
    module = importlib.import_module(package)
    with pytest.raises(AttributeError, match="module 'lazypackage' has no attribute 'Four'") as caught:
        _ = module.Four
    assert (caught.value.name, caught.value.obj) == ("Four", module)


def test_a_module_that_is_broken_says_so(package: str) -> None:
    """What its module raises is what the asker sees, and not that there is no such name."""
    module = importlib.import_module(package)
    with pytest.raises(RuntimeError, match="broken"):
        _ = module.Three


@pytest.mark.parametrize("name", LAZY)
def test_every_listed_name_is_found(name: str) -> None:
    """What a package lists it has."""
    module = importlib.import_module(name)
    assert all(hasattr(module, listed) for listed in module.__all__)


@pytest.mark.parametrize("name", LAZY)
def test_no_lazy_name_is_that_of_a_module(name: str) -> None:
    """Importing such a module would put it in the name's place; a name that is imported at once is safe."""
    module = importlib.import_module(name)
    source = Path(module.__file__ or "").read_text().partition("lazily(\n")[2]
    lazy = set(re.findall(r"\w+", source.partition("\n    )")[0])) & set(module.__all__)
    assert lazy
    assert not lazy & {found.name for found in pkgutil.iter_modules(module.__path__)}


def test_lazily_reads_names_over_several_lines() -> None:
    """A long list of names may be broken like text."""
    find = lazily("mizzen.words", {".lazy": "\n lazily\n pattern\n"})
    assert find("pattern") is pattern
    del sys.modules["mizzen.words"].pattern  # type: ignore[attr-defined]  # put there by the line above


def test_a_pattern_is_compiled_when_it_is_used() -> None:
    """A wrong one is no error until then, and a right one does what a compiled one does."""
    wrong, word, flagged = pattern("("), pattern(r"(\w)(\w*)"), pattern(b"abc", re.IGNORECASE)
    with pytest.raises(re.error):
        wrong.fullmatch("")
    found = word.fullmatch("abc")
    assert found is not None
    assert found.groups() == ("a", "bc")
    assert word.fullmatch("a-b") is None
    assert word.findall("ab c") == [("a", "b"), ("c", "")]
    assert flagged.sub(b"x", b"ABC") == b"x"
    assert repr(word) == r"pattern('(\\w)(\\w*)')"
