"""The example system against its own documents: schemathesis plays every caller that these allow, and worse ones."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet import SHOP, Fleet, Process, ask, settings_of, until

pytestmark = pytest.mark.wire

EXAMPLES = 20
"""Requests of each kind for an operation: some 400 in all, within ten seconds; fifty times as many found no more."""
LIMIT = 120.0
"""Seconds for one run of schemathesis on a busy machine."""
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "negative_data_rejection", "missing_required_header", "unsupported_method",
    "allow_header_conformance",
)  # fmt: skip
TAKES_ALL = "positive_data_acceptance"
"""For the user service alone: to JSON Schema 2.0 is an integer, to a body's int it is not, and orders have a quantity."""
PATIENT = {"limits__handler": "60s"}
"""A slow machine is no defect: nothing here is about deadlines."""


class Shop:
    """Both services of a copy of the example, judged by schemathesis."""

    def __init__(self, folder: Path, fleet: Fleet) -> None:
        self.folder = folder
        user = fleet.start("user", settings=dict(settings_of("user", **PATIENT)))
        calls = {"clients__user__url": user.url, "clients__user__timeout": "30s"}
        order = fleet.start("order", settings=dict(settings_of("order", **PATIENT, **calls)))
        self.services: dict[str, Process] = {"user": user.ready(), "order": order.ready()}
        until(lambda: ask(f"{order.url}/orders/1").status == 200, "order finds user")

    def judge(self, service: str, document: Any, checks: tuple[str, ...], *options: str) -> subprocess.CompletedProcess[str]:
        """Let schemathesis try the service against a document."""
        file = self.folder / "judged.json"
        file.write_text(json.dumps(document))
        command = [sys.executable, "-m", "schemathesis.cli", "run", str(file), "--url", self.services[service].url]
        command += ["--checks", ",".join(checks), "--phases", "examples,coverage,fuzzing"]
        command += ["--max-examples", str(EXAMPLES), "--generation-deterministic", "--no-color"]
        command += ["--suppress-health-check", "all", "--request-timeout", "60", *options]
        return subprocess.run(
            command, cwd=self.folder, env=environ(), capture_output=True, text=True, timeout=LIMIT, check=False
        )


def failures(service: Process) -> list[Any]:
    """What a service had to say of its own failures; that it was not ready at first is none."""
    return [line for line in service.lines() if line["level"] in ("error", "critical") and line.get("path") != "/ready"]


def document(folder: Path, service: str) -> Any:
    """The document that the command line writes to a file."""
    file = folder / f"{service}.json"
    done = mizzen(folder, "contract", "openapi", service, "--output", file.name, "--dir", "shop")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    return json.loads(file.read_text())


def mizzen(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "mizzen", *arguments]
    return subprocess.run(command, cwd=folder, env=environ(), capture_output=True, check=False)


def environ() -> dict[str, str]:
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a copy of the example in it, whose code nobody edits meanwhile."""
    ignored = shutil.ignore_patterns("*.db*", "__pycache__", ".pytest_cache")
    shutil.copytree(SHOP, tmp_path / "shop", ignore=ignored)
    return tmp_path


@pytest.fixture
def shop(folder: Path) -> Iterator[Shop]:
    with Fleet(folder, folder / "shop") as fleet:
        yield Shop(folder, fleet)


def test_the_shop_keeps_its_contract(shop: Shop) -> None:
    """No request makes a server error, an undocumented status or header, or an answer that its schema does not allow."""
    documents = {service: document(shop.folder, service) for service in shop.services}
    # What a schema cannot say: an order's user exists. These do, until the user service is tried.
    existing = documents["order"]["components"]["schemas"]["NewOrder"]["properties"]["user_id"]
    existing.update(minimum=1, maximum=1000)
    for service, checks in {"order": CHECKS, "user": (*CHECKS, TAKES_ALL)}.items():
        judged = shop.judge(service, documents[service], checks)
        assert judged.returncode == 0, f"{service}:\n{judged.stdout}{judged.stderr}"
        tried = re.search(r"(\d+) generated, \1 passed", judged.stdout)
        assert tried is not None, judged.stdout
        assert int(tried[1]) > 200, judged.stdout
        assert failures(shop.services[service]) == []


def test_a_broken_contract_is_found(shop: Shop) -> None:
    """The judge is not blind: a document that keeps an answer secret, or promises another one, is refuted."""
    broken = document(shop.folder, "user")
    del broken["paths"]["/users/{id}"]["get"]["responses"]["404"]
    broken["components"]["schemas"]["Page"]["properties"]["total"] = {"type": "string"}
    judged = shop.judge("user", broken, CHECKS, "--phases", "coverage", "--include-method", "GET")
    assert judged.returncode == 1, judged.stdout
    for words in ("Undocumented status code", "Response violates schema"):
        assert words in judged.stdout, judged.stdout


def test_the_document_is_the_same_every_time(folder: Path) -> None:
    """Standard output has the very bytes that `--output` writes, and a second run has them too."""
    document(folder, "order")
    assert mizzen(folder, "contract", "openapi", "order", "--dir", "shop").stdout == (folder / "order.json").read_bytes()
