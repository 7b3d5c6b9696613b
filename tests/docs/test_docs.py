"""What the documentation shows is true: its code compiles, what can run runs, its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from mizzen.rules.config import parse

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/*.md"), *ROOT.glob("bench/*.md")])
BLOCK = re.compile(r"^```(\w+)( run)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\S+\.(?:py|toml))\n")
LINK = re.compile(r"\]\((?!http|#|mailto:)([^)#]+)")


class Block(NamedTuple):
    """A block of code on a page."""

    page: Path
    line: int
    language: str
    runs: bool
    code: str

    @property
    def name(self) -> str:
        """Where it stands."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def _blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, found[1], bool(found[2]), found[3])
        for found in BLOCK.finditer(text)
    ]


def _of(language: str, *, runs: bool | None = None) -> list[object]:
    blocks = [block for page in PAGES for block in _blocks(page)]
    return [
        pytest.param(block, id=block.name)
        for block in blocks
        if block.language == language and (runs is None or block.runs is runs)
    ]


@pytest.mark.parametrize("block", _of("python"))
def test_python_compiles(block):
    """Every block of Python compiles."""
    compile(block.code, block.name, "exec")


@pytest.mark.parametrize("block", _of("toml"))
def test_toml_is_read(block):
    """Every block of TOML parses, and one that is a mizzen.toml is a valid one."""
    tomllib.loads(block.code)
    if block.code.startswith("# mizzen.toml\n"):
        assert parse(block.code, ROOT / "mizzen.toml", {}).services


@pytest.mark.parametrize("block", _of("python", runs=True))
def test_a_program_runs(block, tmp_path):
    """A block that is marked to run does, among the files that its page shows above it."""
    for other in _blocks(block.page):
        if other.line < block.line and (found := FILE.match(other.code)):
            file = tmp_path / found[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(other.code)
    command = [sys.executable, "-W", "error", "-c", f"import sys; sys.path.insert(0, '')\n{block.code}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_links_lead_somewhere(page):
    """Every link to a file of the repository leads to one."""
    lost = [target for target in LINK.findall(page.read_text()) if not (page.parent / target).exists()]
    assert not lost


def test_there_is_something_to_check():
    """The pages have code that runs: a change of the fences does not quietly switch these tests off."""
    assert len(_of("python", runs=True)) >= 2
    assert len(_of("toml")) >= 2


def test_the_configuration_of_the_example_is_valid():
    """The example's mizzen.toml names its two services on their ports."""
    file = ROOT / "examples" / "shop" / "mizzen.toml"
    system = parse(file.read_text(), file, {})
    assert {name: service.port for name, service in system.services.items()} == {"user": 8101, "order": 8102}
