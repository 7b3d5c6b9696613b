"""The metrics page of real services after traffic of every kind: valid, complete, and without a caller's words in it."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from fleet import APPS, Fleet, Process, ask, free_port, until
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.wire

JSON = {"content-type": "application/json"}
GIVEN = "zq4711"
"""Stands in every path that is asked for; it must not come back in a label."""
LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Starts a program under a low soft limit."""
EXPECTED = {
    "http_server_request_duration_seconds": {"http_request_method", "http_route", "http_response_status_code"},
    "http_server_active_requests": set(),
    "http_client_request_duration_seconds": {"peer", "http_request_method", "outcome"},
    "mizzen_call_duration_seconds": {"peer", "outcome"},
    "mizzen_retries_total": {"peer", "outcome"},
    "mizzen_retry_budget_balance": {"peer"},
    "mizzen_breaker_state": {"peer", "state"},
    "mizzen_endpoints": {"peer", "status"},
    "mizzen_snapshot_age_seconds": {"peer"},
    "mizzen_build_info": {"version", "service", "python"},
    "mizzen_log_lines_dropped_total": set(),
    "mizzen_state": {"state"},
    "process_resident_memory_bytes": set(),
}
"""Names and labels that dashboards and alerts rest on."""
ROUTES = {
    "order": {"/orders/{id}", "/strict/{id}", "/slow/{seconds}", "/orders"},
    "user": {"/users/{id}", "/users", "/slow/{seconds}", "/crash"},
    "desk": {"/tickets/{id}", "/tickets"},
}
PROBES = {"/live", "/ready", "/health", "/metrics", "unmatched"}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each service shows after answers, errors, unknown paths, retries and an open breaker."""
    folder: Path = tmp_path_factory.mktemp("metrics")
    with Fleet(folder) as fleet:
        user = fleet.start("user").ready()
        desk = fleet.start("desk").ready()
        # Two addresses, one of which nobody listens on: some calls are tried again.
        url = f"static:user=127.0.0.1:{user.port},127.0.0.1:{free_port()}"
        order = fleet.start("order", settings={"MIZZEN__DISCOVERY__URL": url}).ready()
        cause_traffic(order, user, desk)
        found = {process.name: metrics(process) for process in (user, desk)}
        user.end()
        until(lambda: 'mizzen_breaker_state{peer="user",state="open"} 1\n' in fail(order), "the breaker opens")
        return {**found, "order": fail(order)}


def cause_traffic(order: Process, user: Process, desk: Process) -> None:
    """Everything that can happen to a request, with the same telling id in each path."""
    until(lambda: ask(f"{order.url}/orders/{GIVEN}").status == 200 and "mizzen_retries_total{" in metrics(order), "a retry")
    assert ask(f"{order.url}/strict/none?id={GIVEN}").status == 502
    assert ask(f"{order.url}/slow/4711", headers={"x-request-timeout-ms": "30"}).status == 504
    assert ask(f"{user.url}/crash?{GIVEN}").status == 500
    assert ask(f"{desk.url}/tickets/x{GIVEN}").status == 422
    assert ask(f"{desk.url}/tickets", "POST", body=b'{"title": "a", "colour": "red", "count": 1}', headers=JSON).status == 201
    for process in (order, user, desk):
        assert ask(f"{process.url}/nowhere/{GIVEN}").status == 404
        assert ask(f"{process.url}/live", "DELETE").status == 405
        assert ask(f"{process.url}/live", "BREW").status == 400
        assert ask(f"{process.url}/{GIVEN * 3000}").status == 414
        assert ask(f"{process.url}/{GIVEN}", "POST", body=b"x" * (2 << 20)).status == 413
        assert ask(f"{process.url}/{GIVEN}", "PROPFIND").status == 404


def metrics(process: Process) -> str:
    return ask(process.url + "/metrics").body.decode()


def fail(order: Process) -> str:
    """One more call that fails, and the page after it."""
    assert ask(f"{order.url}/orders/{GIVEN}").status == 503
    return metrics(order)


def samples(page: str) -> list[tuple[str, Mapping[str, str]]]:
    """Every line of a page: its name, and its labels without a histogram's bounds."""
    return [
        (sample.name, {label: value for label, value in sample.labels.items() if label != "le"})
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    ]


@pytest.mark.parametrize("name", ROUTES)
def test_promtool_accepts_the_page(pages: dict[str, str], name: str) -> None:
    """Prometheus' own linter has nothing to say, where user code has metrics of its own too."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus, or brew install prometheus")
    done = subprocess.run([promtool, "check", "metrics"], input=pages[name].encode(), capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_every_name_is_there_with_its_labels(pages: dict[str, str]) -> None:
    """A service with a peer shows every metric that is promised, and each with exactly its labels."""
    shown: dict[str, set[str]] = {}
    for name, labels in samples(pages["order"]):
        shown.setdefault(name.removesuffix("_count"), set()).update(labels)
    assert {name: shown.get(name) for name in EXPECTED} == EXPECTED


@pytest.mark.parametrize("name", ROUTES)
def test_no_label_holds_what_a_caller_wrote(pages: dict[str, str], name: str) -> None:
    """Routes are templates, what no route matches is one of them, and no value has a path or an id of a request."""
    found: dict[str, set[str]] = {}
    for _, labels in samples(pages[name]):
        for label, value in labels.items():
            found.setdefault(label, set()).add(value)
    assert found["http_route"] - PROBES <= ROUTES[name]
    assert found["http_route"] >= {"unmatched", "/ready"}
    assert found["http_request_method"] == {"GET", "POST", "DELETE", "_OTHER"}
    assert all(re.fullmatch(r"[2-5]\d\d", value) for value in found["http_response_status_code"])
    values = set().union(*(found[label] for label in found if label != "http_route"))
    assert not [value for value in values if GIVEN in value or "/" in value]


def test_traffic_is_counted_for_what_it_came_to(pages: dict[str, str]) -> None:
    """Each kind of refusal stands under its own status, and a call under its outcome."""
    shown = [labels for name, labels in samples(pages["order"]) if name == "http_server_request_duration_seconds_count"]
    refused = {
        (each["http_request_method"], each["http_response_status_code"]) for each in shown if each["http_route"] == "unmatched"
    }
    assert refused == {
        ("GET", "404"), ("DELETE", "405"), ("_OTHER", "400"), ("GET", "414"), ("POST", "413"), ("_OTHER", "404"),
    }  # fmt: skip
    calls = {labels["outcome"] for name, labels in samples(pages["order"]) if name == "mizzen_call_duration_seconds_count"}
    assert calls >= {"ok", "client_error", "refused", "breaker_open"}
    assert 'desk_tickets_total{colour="red"} 1.0\n' in pages["desk"]


def test_the_page_says_what_it_is(tmp_path: Path) -> None:
    """The page is Prometheus' text format, named with its version, and GET alone asks for it."""
    with Fleet(tmp_path) as fleet:
        user = fleet.start("user").ready()
        answer = ask(user.url + "/metrics")
        assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert ask(user.url + "/metrics", "POST").status == 405


def test_a_service_may_have_as_many_descriptors_as_the_system_lets_it(tmp_path: Path) -> None:
    """A shell's soft limit, often 1,024, does not keep a service from its 10,000 connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    within = [sys.executable, "-c", LIMITED, sys.executable, "-m", "mizzen", "run", "user", "--dir", str(APPS), "--port"]
    port = free_port()
    process = subprocess.Popen([*within, str(port)], stdout=subprocess.DEVNULL, env=dict(os.environ))
    try:
        until(lambda: ask(f"http://127.0.0.1:{port}/ready").status == 200, "it is ready")
        page = ask(f"http://127.0.0.1:{port}/metrics").body.decode()
    finally:
        process.terminate()
        process.wait(20)
    most = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    assert f"\nprocess_max_fds {most}" in page
