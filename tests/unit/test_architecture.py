"""The import rules: what may know what. The folders show them, this file holds them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GROUPS = ("words", "rules", "edges", "assembly", "tools")
"""Each may import itself and what stands left of it."""
NO_SIBLINGS = ("rules", "edges")
"""Groups whose members do not know each other: they meet in assembly."""
FACADE = ("mizzen", "mizzen.testing", "mizzen.__main__")
"""The doors of the package: these gather names from everywhere, and nothing inside imports them."""
THIRD_PARTY = {"words": {"msgspec"}, "rules": {"msgspec"}, "assembly": {"msgspec", "uvloop"}}
"""In edges one library to a file, in tools any; the loop is chosen where the process starts, in assembly."""
IO = {"socket", "ssl", "subprocess", "select", "selectors", "signal", "urllib.request", "http.client"}
"""Modules that words and rules do without."""
ENVIRON = {"environ", "environb", "getenv", "getenvb", "putenv"}
READS_ENVIRON = ("src/mizzen/rules/config", "src/mizzen/tools/")
"""Configuration parses the environment; a command's entry hands it in, and the supervisor hands it on."""
LONGEST = 400
"""Lines; a module that passes it has more than one responsibility."""

Import = tuple[int, str]


def violations(files: Mapping[str, str]) -> list[str]:
    """Every broken rule in modules given as path -> source, each as ``path:line: what``."""
    found = []
    modules = {_module(path) for path in files if path.startswith("src/")}
    for path, source in sorted(files.items()):
        tree = ast.parse(source, path)
        check = _inside if path.startswith("src/") else _outside
        found += [f"{path}:{line}: {what}" for line, what in check(path, tree, modules)]
        if path.startswith("src/") and (length := source.count("\n")) > LONGEST:
            found.append(f"{path}:{length}: longer than {LONGEST} lines")
    return found


def _inside(path: str, tree: ast.Module, modules: set[str]) -> Iterator[tuple[int, str]]:
    """Rules for Mizzen's own modules."""
    module = _module(path)
    imports = list(_imports(tree, module, modules, package=path.endswith("__init__.py")))
    yield from _side_effects(tree)
    if not path.startswith(READS_ENVIRON):
        yield from _environ(tree)
    if module in FACADE:
        return
    parts = module.split(".")
    if len(parts) == 2 and parts[1] not in GROUPS:
        yield 1, f"{module} is in no group; there are {', '.join(GROUPS)}"
        return
    group, member = parts[1], ".".join(parts[:3])
    foreign: set[str] = set()
    for line, name in imports:
        top = name.split(".")[0]
        if top == "mizzen":
            yield from ((line, what) for what in _own(group, member, name))
        elif top in sys.stdlib_module_names:
            if group in ("words", "rules") and any(name == io or name.startswith(f"{io}.") for io in IO):
                yield line, f"{group} do no I/O, but this imports {name}"
        else:
            foreign.add(top)
            if group in THIRD_PARTY and top not in THIRD_PARTY[group]:
                yield line, f"{group} import no {top}; an edge adapts it"
    if group == "edges" and len(foreign - {"msgspec"}) > 1:
        yield 1, f"an edge adapts one library, this one {', '.join(sorted(foreign - {'msgspec'}))}"


def _own(group: str, member: str, name: str) -> Iterator[str]:
    """What is wrong with importing a module of ours."""
    target = name.split(".")
    if len(target) == 1 or target[1] not in GROUPS:
        yield f"{name} is for users; inside, import the module that defines the name"
    elif GROUPS.index(target[1]) > GROUPS.index(group):
        yield f"{group} may not know {target[1]}, but this imports {name}"
    elif target[1] == group and group in NO_SIBLINGS and len(target) > 2 and ".".join(target[:3]) != member:
        yield f"{member} may not know its sibling {'.'.join(target[:3])}"
    elif name.startswith("mizzen.tools.testing") and member != "mizzen.tools.testing":
        yield "nothing imports mizzen.tools.testing"


def _outside(path: str, tree: ast.Module, _modules: set[str]) -> Iterator[tuple[int, str]]:
    """Rules for what a user writes, which the example shows."""
    parts = Path(path).with_suffix("").parts
    domain = parts[parts.index("shop", 2) + 1] if "shop" in parts[2:] else ""
    module = ".".join(parts[2:])
    for line, name in _imports(tree, module.removesuffix(".__init__"), set(), package=path.endswith("__init__.py")):
        if name.startswith("mizzen.") and name.split(".")[1] in GROUPS:
            yield line, f"users import mizzen and mizzen.testing only, but this imports {name}"
        for other in {"user", "order"} - {domain}:
            if domain in ("user", "order") and (name == f"shop.{other}" or name.startswith(f"shop.{other}.")):
                yield line, f"the domain {domain} may not know the domain {other}: it could not be split off"


def _imports(tree: ast.Module, module: str, modules: set[str], *, package: bool) -> Iterator[Import]:
    """Line and absolute name of everything imported anywhere in a module, types-only imports too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")
                above = above[: len(above) - node.level + (1 if package else 0)]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                # `from mizzen.rules import config` names a module, `from mizzen.rules.retry import Budget` does not.
                full = f"{base}.{alias.name}"
                yield node.lineno, full if full in modules or base in ("mizzen", "mizzen.rules", "mizzen.edges") else base


def _environ(tree: ast.Module) -> Iterator[tuple[int, str]]:
    what = "the environment is read in one place, rules/config, and handed in"
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="os"), attr=name) if name in ENVIRON:
                yield node.lineno, what
            case ast.ImportFrom(module="os", names=names) if ENVIRON.intersection(alias.name for alias in names):
                yield node.lineno, what


def _side_effects(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in tree.body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield node.lineno, "importing a module does nothing, but this calls something"
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield node.lineno, f"no module state, but this changes {', '.join(node.names)}"


def _module(path: str) -> str:
    return ".".join(Path(path).with_suffix("").parts[1:]).removesuffix(".__init__")


def _read(*folders: str) -> dict[str, str]:
    return {str(file.relative_to(ROOT)): file.read_text() for folder in folders for file in (ROOT / folder).rglob("*.py")}


def test_the_import_rules_hold():
    """Every module of Mizzen and of the example imports only what its place allows."""
    files = _read("src/mizzen", "examples/shop")
    assert len(files) > 20
    found = violations(files)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source", "what"),
    [
        ("src/mizzen/words/clock.py", "import httptools", "words import no httptools"),
        ("src/mizzen/words/clock.py", "from mizzen.rules.retry import Budget", "words may not know rules"),
        ("src/mizzen/words/clock.py", "from ..rules import retry", "words may not know rules"),
        (
            "src/mizzen/rules/retry.py",
            "from mizzen.rules.breaker import Breaker",
            "may not know its sibling mizzen.rules.breaker",
        ),
        ("src/mizzen/rules/retry.py", "from . import breaker", "may not know its sibling mizzen.rules.breaker"),
        ("src/mizzen/rules/binding/plan.py", "from ..router import Route", "may not know its sibling mizzen.rules.router"),
        ("src/mizzen/rules/retry.py", "def f():\n    import httpx", "retry.py:2: rules import no httpx"),
        ("src/mizzen/rules/retry.py", "import socket", "rules do no I/O"),
        ("src/mizzen/rules/retry.py", "from mizzen.edges.http import Pool", "rules may not know edges"),
        ("src/mizzen/edges/http/pool.py", "from mizzen.edges.telemetry.logs import x", "may not know its sibling"),
        ("src/mizzen/edges/http/pool.py", "import httptools, uvloop", "an edge adapts one library"),
        ("src/mizzen/edges/http/pool.py", "from mizzen.assembly.client import Client", "edges may not know assembly"),
        ("src/mizzen/assembly/client.py", "from mizzen.tools.cli import main", "assembly may not know tools"),
        ("src/mizzen/assembly/client.py", "import typer", "assembly import no typer"),
        ("src/mizzen/assembly/client.py", "from mizzen import Service", "mizzen.Service is for users"),
        (
            "src/mizzen/assembly/client.py",
            "import os\nx = os.environ['A']",
            "client.py:2: the environment is read in one place",
        ),
        ("src/mizzen/assembly/client.py", "from os import getenv", "the environment is read in one place"),
        ("src/mizzen/assembly/client.py", "import logging\nlogging.basicConfig()", "importing a module does nothing"),
        ("src/mizzen/assembly/client.py", "def f():\n    global x\n    x = 1", "no module state"),
        ("src/mizzen/assembly/client.py", "\n" * 401, "longer than 400 lines"),
        ("src/mizzen/tools/dev/run.py", "from mizzen.tools.testing.memory import x", "nothing imports mizzen.tools.testing"),
        ("src/mizzen/helpers.py", "import os", "is in no group"),
        (
            "examples/shop/shop/order/users.py",
            "from mizzen.rules.retry import Budget",
            "users import mizzen and mizzen.testing",
        ),
        ("examples/shop/shop/order/users.py", "from shop.user.model import User", "may not know the domain user"),
        ("examples/shop/shop/order/users.py", "from ..user.model import User", "may not know the domain user"),
    ],
)
def test_a_broken_rule_is_found(path, source, what):
    """A planted violation is found, with its file and line."""
    siblings = ("router", "retry", "breaker", "binding/plan")
    files = {f"src/mizzen/rules/{name}.py": "" for name in siblings}
    files["src/mizzen/__init__.py"] = ""
    found = violations({**files, path: source})
    assert len(found) == 1
    assert found[0].startswith(f"{path}:")
    assert what in found[0]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("src/mizzen/__init__.py", "from mizzen.assembly.client import Client"),
        ("src/mizzen/words/context.py", "from .clock import Clock\nimport msgspec, re"),
        ("src/mizzen/rules/binding/plan.py", "from .body import read\nfrom mizzen.words.faults import find_faults"),
        ("src/mizzen/edges/http/pool.py", "import httptools, msgspec, socket\nfrom mizzen.rules import events"),
        ("src/mizzen/rules/config/parse.py", "import os\nx = os.environ"),
        ("src/mizzen/tools/cli/dev.py", "import os, typer, rich\nx = os.environ"),
        ("src/mizzen/assembly/client.py", "from mizzen.edges.http import Pool\nfrom mizzen.rules import config"),
        ("examples/shop/shop/order/users.py", "from mizzen import Client, testing\nfrom shop.database import x"),
        ("examples/shop/tests/order/test_order.py", "from mizzen.testing import client\nfrom shop.order.model import User"),
    ],
)
def test_what_is_allowed_passes(path, source):
    """What the rules allow is not reported."""
    assert not violations({path: source})


def test_every_test_says_what_is_true():
    """Each test has a docstring of one sentence in the present tense."""
    silent = [
        f"{path}:{node.lineno}: {node.name}"
        for path, source in _read("tests", "examples/shop/tests").items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and Path(path).name.startswith("test_")
        and not (ast.get_docstring(node) or "").strip()
    ]
    assert not silent, "\n".join(silent)


def test_the_groups_stand_in_one_order():
    """The order of the groups is total: each knows all groups left of it and none to its right."""
    for left, right in pairwise(GROUPS):
        up = violations({f"src/mizzen/{left}/a.py": f"import mizzen.{right}.b"})
        down = violations({f"src/mizzen/{right}/a.py": f"import mizzen.{left}.b"})
        assert (len(up), len(down)) == (1, 0)
