"""What a start loads: a service pays for what it uses, in a fresh process, and nothing creeps back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet, ask, until

pytestmark = pytest.mark.wire

BARE = "import asyncio, uvloop, httptools, msgspec, sys; print(*sys.modules)"
"""The reference of the budget; what it loads is paid already."""
SERVICE = """
import gc, sys
from mizzen import Router, Service

def register_handlers(router: Router) -> None:
    router.get("/", loaded)

async def loaded() -> dict:
    ours = [module for name, module in sys.modules.items() if name.split(".")[0] == "mizzen"]
    kinds = {kind for module in ours for kind in vars(module).values() if isinstance(kind, type)}
    slow = [str(kind) for kind in kinds if issubclass(kind, tuple) and kind.__module__.split(".")[0] == "mizzen"]
    return {"modules": sorted(sys.modules), "slow": slow, "frozen": gc.get_freeze_count(), "collects": gc.isenabled()}

def build() -> Service:
    service = Service("user")
    service.mount(register_handlers)
    return service
"""
SYSTEM = """
discovery.url = "none:"
services.user = { build = "small:build", port = 1 }
services.order = { build = "small:build", port = 2 }
"""
STANDARD = {
    "random", "_random", "bisect", "_bisect", "_sha2", "_sha512",  # ids of traces
    "tomllib",
    "resource",  # as many descriptors as there may be
    "_queue", "queue", "concurrent",  # the threads of plain functions
    "runpy", "importlib", "pkgutil",  # python -m
}  # fmt: skip
"""Top-level modules of the standard library that a start may load beyond the bare line's."""
ABSENT = (
    "mizzen.assembly.announce", "mizzen.assembly.call", "mizzen.assembly.client", "mizzen.assembly.crew",
    "mizzen.assembly.eyeballs", "mizzen.assembly.hosted", "mizzen.assembly.lookups", "mizzen.assembly.peers",
    "mizzen.assembly.registry", "mizzen.assembly.target",
    "mizzen.edges.asgi", "mizzen.edges.registry", "mizzen.edges.resolvers.consul", "mizzen.edges.resolvers.dns",
    "mizzen.edges.resolvers.etcd", "mizzen.edges.resolvers.kubernetes", "mizzen.edges.resolvers.static",
    "mizzen.edges.http.certificates", "mizzen.edges.http.connection", "mizzen.edges.http.tls",
    "mizzen.edges.http.transport", "mizzen.edges.telemetry.console", "mizzen.edges.telemetry.exposition",
    "mizzen.rules.balance", "mizzen.rules.binding.forms", "mizzen.rules.breaker", "mizzen.rules.config.lines",
    "mizzen.rules.config.listing", "mizzen.rules.config.typed", "mizzen.rules.retry",
    "mizzen.tools.cli.explain", "mizzen.tools.cli.full", "mizzen.tools.contract", "mizzen.tools.dev",
    "mizzen.words.faults",
)  # fmt: skip
"""What a service that calls nobody, announces itself nowhere and speaks plain HTTP has no use for."""
MOST = 106
"""Modules of ours that such a service loads; an empty one costs a start 0.1 ms."""
WHAT_TO_DO = """
The time to the first 200 is a budget (bench/start.py): at most 1.3 times a bare `python -c "import asyncio, uvloop,
httptools, msgspec"`. Import where it is used what only some services, only mistakes or only other commands need: in the
function, or through `lazily` in the package's __init__. Only what every start needs belongs in the lists of this test.
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What a running service of the smallest kind says of itself at its first request."""
    folder: Path = tmp_path_factory.mktemp("small")
    (folder / "small.py").write_text(SERVICE)
    (folder / "mizzen.toml").write_text(SYSTEM)
    with Fleet(folder, folder) as fleet:
        process = fleet.start("user")

        def answered() -> dict[str, Any] | None:
            if process.popen.poll() is not None:
                raise AssertionError(process.stdout + process.stderr)
            try:
                answer = ask(process.url + "/")
            except OSError:  # it does not listen yet
                return None
            return answer.json() if answer.status == 200 else None

        yield until(answered, "the first 200")


def beyond_bare(loaded: dict[str, Any]) -> list[str]:
    """The modules that the reference does not have."""
    bare = subprocess.run([sys.executable, "-c", BARE], check=True, capture_output=True, text=True).stdout.split()
    return [name for name in loaded["modules"] if name not in bare and name not in ("small", "__main__", "__mp_main__")]


def test_a_start_loads_no_more_of_the_standard_library_than_it_must(loaded: dict[str, Any]) -> None:
    """Beyond asyncio, uvloop, httptools and msgspec a service needs TOML and random numbers."""
    tops = {name.split(".")[0] for name in beyond_bare(loaded)} - {"mizzen", "uvloop", "httptools", "msgspec"}
    extra = {top for top in tops if top in sys.stdlib_module_names} - STANDARD
    assert not extra, f"a start loads {', '.join(sorted(extra))}{WHAT_TO_DO}"


def test_a_start_loads_no_library_but_the_chosen_ones(loaded: dict[str, Any]) -> None:
    """What the command line for people, development and databases need is not there."""
    tops = {name.split(".")[0] for name in beyond_bare(loaded)} - sys.stdlib_module_names
    foreign = {top for top in tops if not top.startswith("_")} - {"mizzen", "org"}
    assert not foreign, f"a start loads {', '.join(sorted(foreign))}{WHAT_TO_DO}"


def test_a_service_does_not_load_what_it_does_not_use(loaded: dict[str, Any]) -> None:
    """Without clients, registry, TLS and mistakes, what these need stays on the disk."""
    ours = [name for name in loaded["modules"] if name.startswith("mizzen")]
    extra = [name for name in ours if any(f"{name}.".startswith(f"{absent}.") for absent in ABSENT)]
    assert not extra, f"a start loads {', '.join(extra)}{WHAT_TO_DO}"
    assert len(ours) <= MOST, f"a start loads {len(ours)} modules of ours, at most {MOST} are agreed{WHAT_TO_DO}"


def test_records_on_the_way_are_structs(loaded: dict[str, Any]) -> None:
    """A NamedTuple compiles its constructor at each import, 0.3 ms; a frozen Struct takes 0.05, and is read faster."""
    assert not loaded["slow"], f"{', '.join(loaded['slow'])}: make it a frozen msgspec.Struct{WHAT_TO_DO}"


def test_what_was_loaded_is_never_collected_again(loaded: dict[str, Any]) -> None:
    """The collector is on once the service is built, and what stays for good is out of its way."""
    assert loaded["collects"]
    assert loaded["frozen"] > 10_000


def test_importing_mizzen_loads_next_to_nothing() -> None:
    """The package's names are found when somebody asks for them; a name it has not is an error that says so."""
    code = """
import json, sys
import mizzen
before = [name for name in sys.modules if name.startswith("mizzen")]
from mizzen import NotFound
after = [name for name in sys.modules if name.startswith("mizzen")]
try:
    mizzen.Servise
except AttributeError as error:
    print(json.dumps([before, after, str(error)]))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    before, after, error = json.loads(done.stdout)
    assert set(before) == {"mizzen", "mizzen.words", "mizzen.words.lazy"}
    assert set(after) - set(before) == {"mizzen.words.errors", "mizzen.words.statuses"}
    assert error == "module 'mizzen' has no attribute 'Servise'"
