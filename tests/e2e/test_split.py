"""Each domain of the example system stands alone: it can be tested, and split off, without the other one's code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fleet import SHOP

import mizzen

pytestmark = pytest.mark.wire

LIMIT = 120.0
"""Seconds for the tests of one domain, which take two when the machine is quiet."""
LEFT_OUT = shutil.ignore_patterns("*.db*", "__pycache__", ".pytest_cache")


def run_tests(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest there, as whoever has only that folder does: nothing of this repository but Mizzen can be imported."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environ["PYTHONPATH"] = str(Path(mizzen.__file__).parents[1])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=LIMIT, check=False)


@pytest.mark.parametrize(("domain", "other"), [("order", "user"), ("user", "order")])
def test_a_domain_is_tested_without_the_other(tmp_path: Path, domain: str, other: str) -> None:
    """With the other domain's code deleted, the tests of a domain pass, every one of them."""
    folder = tmp_path / "copy"
    shutil.copytree(SHOP, folder, ignore=LEFT_OUT)
    every = run_tests(folder, "--collect-only", f"tests/{domain}").stdout
    shutil.rmtree(folder / "shop" / other)
    assert run_tests(folder, f"tests/{other}").returncode != 0  # it is really gone, and not found elsewhere
    ran = run_tests(folder, f"tests/{domain}")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    count = every.count("::")
    assert count > 5
    assert f"{count} passed" in ran.stdout
