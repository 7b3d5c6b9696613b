"""The embedded registry and a real Consul agent, asked the same: status, headers and JSON are the same but for their names.

What differs by design is not asked here: what the embedded registry refuses, in ``tests/unit/test_registry.py``.
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from difflib import ndiff
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from fleet import Fleet
from servers.consul import Consul, development

pytestmark = [pytest.mark.servers, pytest.mark.wire]

PATIENCE = 10.0
"""Seconds until an agent's change is in its catalog; milliseconds when all is well."""
OWN = {
    "X-Consul-Index", "X-Consul-Contenthash", "Date", "Content-Length", "Transfer-Encoding", "Connection", "Vary",
}  # fmt: skip
"""Header fields whose value, or presence, says nothing: those of the transport, and numbers of one's own."""


class Asked(NamedTuple):
    """An answer, with what is one's own taken out."""

    status: int
    headers: dict[str, str]
    body: Any


class Registry(NamedTuple):
    url: str
    node: str

    def ask(self, method: str, path: str, body: Any = None) -> Asked:
        url = self.url + path.replace("{node}", self.node)
        request = urllib.request.Request(url, method=method, data=None if body is None else json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                status, headers, said = answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, headers, said = error.code, dict(error.headers), error.read()
        kept = {name.title(): value for name, value in headers.items() if name.title() not in OWN}
        kept |= {name: "" for name in ("X-Consul-Index", "X-Consul-Contenthash") if name in {each.title() for each in headers}}
        if kept.get("Content-Type") == "application/json":
            return Asked(status, kept, self._plain(json.loads(said), ""))
        return Asked(status, kept, said.decode())

    def _plain(self, value: Any, key: str) -> Any:
        """With the index, the name of the node and what only it knows of itself as a word; the order of keys stays."""
        if isinstance(value, dict):
            if value.get("Node") == self.node and "Address" in value:  # the node's own record, or a row that has it in it
                value = {**value, "ID": "id", **{name: "meta" for name in ("Meta", "NodeMeta") if name in value}}
            return {name: self._plain(each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [self._plain(each, key) for each in value]
        if key in ("CreateIndex", "ModifyIndex"):
            return "index"
        if key == "ContentHash":
            return f"{len(value)} digits" if re.fullmatch("[0-9a-f]+", value) else value
        return "node" if value == self.node else value


class Both(NamedTuple):
    ours: Registry
    theirs: Registry

    def same(self, method: str, path: str, body: Any = None) -> Asked:
        """Ask both, until they answer alike: an agent's change takes a moment to get into Consul's catalog."""
        theirs, ours = self.theirs.ask(method, path, body), self.ours.ask(method, path, body)
        end = time.monotonic() + PATIENCE
        while method == "GET" and not alike(ours, theirs) and time.monotonic() < end:
            time.sleep(0.05)
            theirs, ours = self.theirs.ask(method, path), self.ours.ask(method, path)
        assert alike(ours, theirs), f"{method} {path}, ours and Consul's:\n{difference(ours, theirs)}"
        return ours

    def put(self, path: str, body: Any = None) -> None:
        assert self.same("PUT", path, body).status == 200, (path, body)


def alike(ours: Asked, theirs: Asked) -> bool:
    """The order of keys counts as well."""
    return ours == theirs and json.dumps(ours.body) == json.dumps(theirs.body)


def difference(ours: Asked, theirs: Asked) -> str:
    return "\n".join(ndiff(*([*map(str, each[:2]), *json.dumps(each.body, indent=1).splitlines()] for each in (ours, theirs))))


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consul]:
    with development(tmp_path_factory.mktemp("consul")) as agent:
        yield agent


@pytest.fixture
def both(agent: Consul, tmp_path: Path) -> Iterator[Both]:
    """The two; the real one is emptied afterwards, since every test starts with an embedded one of its own."""
    with Fleet(tmp_path) as fleet:
        theirs = Registry(f"http://{agent.host}:{agent.port}", agent.name)
        yield Both(Registry(fleet.with_registry().url, "mizzen"), theirs)
        for path in ("agent/services", "agent/checks"):
            what = path.removeprefix("agent/").removesuffix("s")
            for id in agent.get(f"/v1/{path}"):
                agent.put(f"/v1/agent/{what}/deregister/{id}")
        agent.put("/v1/agent/maintenance?enable=false")
        for node in agent.get("/v1/catalog/nodes"):
            if node["Node"] != agent.name:
                agent.put("/v1/catalog/deregister", {"Node": node["Node"]})
        assert list(agent.get("/v1/agent/checks")) == []


TTL = {"CheckID": "beat", "Name": "heartbeat", "TTL": "90s", "Status": "passing", "DeregisterCriticalServiceAfter": "10m"}
USER = {
    "ID": "u1",
    "Name": "user",
    "Address": "10.0.0.7",
    "Port": 8101,
    "Tags": ["v1", "blue"],
    "Meta": {"boot": "b1", "zone": "eu-1a"},
    "Weights": {"Passing": 10, "Warning": 1},
    "Checks": [TTL],
}
ENTRY = {
    "Node": "pod-1",
    "Address": "10.1.0.4",
    "NodeMeta": {"external-node": "true"},
    "Service": {"ID": "u9", "Service": "user", "Address": "10.1.0.4", "Port": 80, "Tags": ["v2"], "Meta": {"boot": "b9"}},
    "Checks": [
        {"Node": "pod-1", "CheckID": "u9:ttl", "Name": "verdict", "Status": "passing", "ServiceID": "u9", "Output": "fine"},
        {
            "CheckID": "u9:http",
            "Name": "health",
            "Status": "warning",
            "ServiceID": "u9",
            "Definition": {"HTTP": "http://10.1.0.4/", "Method": "GET", "Interval": "10000ms", "Timeout": "2s"},
        },
    ],
}
AGENT_READS = ("agent/services", "agent/service/u1", "agent/service/nobody", "agent/checks")
READS = (
    "health/service/user", "health/service/user?passing", "health/service/user?tag=v1&tag=blue", "health/service/user?stale",
    "health/service/user?consistent", "health/service/nobody", "health/checks/user", "health/checks/nobody",
    "health/node/{node}", "health/node/nowhere", "health/state/any", "health/state/passing", "health/state/critical",
    "health/state/warning", "catalog/service/user", "catalog/service/user?tag=v1", "catalog/service/nobody", "catalog/nodes",
    "catalog/node/nowhere", "catalog/node-services/nowhere", "catalog/datacenters",
)  # fmt: skip


def compare(both: Both, paths: Sequence[str]) -> None:
    for path in paths:
        both.same("GET", f"/v1/{path}")


def services(both: Both) -> None:
    """Consul gives the tags of a service in any order, and has a service of its own with metadata of its own."""
    seen = [{name: sorted(tags) for name, tags in each.ask("GET", "/v1/catalog/services").body.items()} for each in both]
    assert seen[0] == seen[1]
    for path in ("catalog/node/{node}", "catalog/node-services/{node}"):
        ours, theirs = (each.ask("GET", f"/v1/{path}") for each in both)
        assert (ours.status, ours.headers) == (theirs.status, theirs.headers)
        assert ours.body["Node"] == theirs.body["Node"]
        mine, other = ours.body["Services"], theirs.body["Services"]
        if isinstance(other, dict):
            other.pop("consul")
        else:
            other[:] = [each for each in other if each["ID"] != "consul"]
        assert json.dumps(mine) == json.dumps(other)


def test_an_empty_registry_answers_as_an_empty_agent(both: Both) -> None:
    """Nothing registered: the same empty answers, and the same ways to say that something is not there."""
    compare(both, [*AGENT_READS, *READS])
    services(both)


def test_a_registration_is_shown_alike_everywhere(both: Both) -> None:
    """With checks, tags, metadata and weights, and one that has none of it."""
    target = f"{both.theirs.url}/v1/status/leader"
    probe = {"CheckID": "probe", "HTTP": target, "Interval": "1s", "Timeout": "1500ms", "Notes": "of both"}
    both.put("/v1/agent/service/register", {**USER, "Checks": [TTL, probe, {"TCP": urlsplit(target).netloc, "Interval": "1s"}]})
    both.put("/v1/agent/service/register", {"Name": "bare"})
    six = {"Name": "six", "Address": "fd00::1", "Port": 4, "TaggedAddresses": {"lan": {"Address": "10.1.1.1", "Port": 8}}}
    both.put("/v1/agent/service/register", six)
    both.put("/v1/agent/service/register", {"name": "snake", "enable_tag_override": True, "check": {"ttl": "90s"}})
    both.put("/v1/agent/service/register", {"Name": "two", "Checks": [{"TTL": "80s"}, {"TTL": "90s"}]})
    compare(both, [*AGENT_READS, "agent/service/bare", "agent/service/six", "agent/service/snake", *READS])
    services(both)


def test_beats_and_removals_have_the_same_effect(both: Both) -> None:
    """Four ways to beat, maintenance of a service and of the node, checks that come and go, ids that are taken over."""
    user = USER
    both.put("/v1/agent/service/register", user)
    for path, body in (
        ("agent/check/fail/beat?note=down", None),
        ("agent/check/warn/beat", None),
        ("agent/check/update/beat", {"Status": "critical", "Output": "because"}),
        ("agent/service/register", {**user, "Tags": ["v3"], "Checks": [{**TTL, "Status": "passing"}]}),
        ("agent/check/pass/beat?note=up", None),
        ("agent/service/maintenance/u1?enable=true&reason=disk", None),
        ("agent/service/maintenance/u1?enable=true&reason=again", None),
        ("agent/maintenance?enable=true&reason=rack", None),
        ("agent/service/maintenance/u1?enable=false", None),
        ("agent/maintenance?enable=false", None),
        ("agent/check/register", {"Name": "memory", "TTL": "80s", "Notes": "of the node", "Status": "warning"}),
        ("agent/check/register", {"ID": "extra", "Name": "second", "TTL": "80s", "ServiceID": "u1", "Status": "passing"}),
        ("agent/check/deregister/memory", None),
        ("agent/service/register?replace-existing-checks=true", user),
        ("agent/service/register", {"ID": "u2", "Name": "user", "Checks": [{**TTL, "CheckID": "beat2"}]}),
        ("agent/service/deregister/u1", None),
        ("agent/service/register", {"ID": "a/b", "Name": "user", "Check": {"CheckID": "p/q", "TTL": "80s"}}),
        ("agent/check/pass/p/q", None),
        ("agent/service/deregister/a/b", None),
    ):
        both.put(f"/v1/{path}", body)
        compare(both, [*AGENT_READS, *READS])


def test_the_catalog_takes_and_gives_entries_alike(both: Both) -> None:
    """Nodes, services and checks without an agent: entered, changed, removed one by one and by transactions."""
    nodes = ("health/node/pod-1", "catalog/node/pod-1", "catalog/node-services/pod-1")
    reads = (*nodes, *READS)
    check = {"Node": "pod-1", "CheckID": "u9:ttl", "Name": "verdict", "ServiceID": "u9"}
    stale = {"Service": {"Verb": "delete-cas", "Node": "pod-1", "Service": {"ID": "u9", "Service": "user", "ModifyIndex": 1}}}
    for path, body in (
        ("catalog/register", ENTRY),
        (
            "catalog/register",
            {"Node": "pod-1", "Address": "10.1.0.4", "SkipNodeUpdate": True, "Check": {**check, "Status": "critical"}},
        ),
        ("catalog/register", {"Node": "pod-1", "Address": "10.1.0.5", "Check": {"Name": "disk", "Status": "passing"}}),
        ("catalog/register", {"Node": "pod-1", "SkipNodeUpdate": True, "Service": {"Service": "user", "Port": 81}}),
        (
            "catalog/register",
            {"Datacenter": "dc1", "Node": "pod-2", "Address": "10.1.0.6", "TaggedAddresses": {"lan": "10.1.0.6"}},
        ),
        ("catalog/deregister", {"Node": "pod-1", "CheckID": "u9:http"}),
        ("catalog/deregister", {"Node": "pod-1", "CheckID": "none"}),
        ("catalog/deregister", {"Node": "pod-1", "ServiceID": "none"}),
        ("catalog/deregister", {"Node": "nowhere"}),
        ("catalog/deregister", {"Node": "pod-1", "ServiceID": "user", "CheckID": "disk"}),
        ("txn", [{"Service": {"Verb": "delete", "Node": "pod-1", "Service": {"ID": "none", "Service": "user"}}}]),
    ):
        both.put(f"/v1/{path}", body)
        compare(both, reads)
        services(both)
    assert both.same("PUT", "/v1/txn", [stale, {"Node": {"Verb": "delete", "Node": {"Node": "pod-1"}}}]).status == 409
    for each in both:  # with the index that each has given it
        with urllib.request.urlopen(f"{each.url}/v1/catalog/node-services/pod-1", timeout=PATIENCE) as answer:
            service = json.load(answer)["Services"][0]
        steps = [
            {"Service": {"Verb": "delete-cas", "Node": "pod-1", "Service": service}},
            {"Node": {"Verb": "delete", "Node": {"Node": "pod-1"}}},
        ]
        assert each.ask("PUT", "/v1/txn", steps)[::2] == (200, {"Results": [], "Errors": None})
    compare(both, reads)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "agent/service/register", {}),
        ("PUT", "agent/service/register", {"Name": "k", "Check": {"Name": "n"}}),
        ("PUT", "agent/service/register", {"Name": "k", "Weights": {"Passing": 0, "Warning": 0}}),
        ("PUT", "agent/service/deregister/none", None),
        ("PUT", "agent/service/maintenance/none?enable=true", None),
        ("PUT", "agent/service/maintenance/none", None),
        ("PUT", "agent/maintenance", None),
        ("PUT", "agent/check/register", {"TTL": "10s"}),
        ("PUT", "agent/check/register", {"Name": "c", "TTL": "10s", "ServiceID": "none"}),
        ("PUT", "agent/check/pass/none", None),
        ("PUT", "agent/check/deregister/none", None),
        ("PUT", "agent/check/update/none", {"Status": "passing"}),
        ("PUT", "catalog/register", {"Node": "ext"}),
        ("PUT", "catalog/register", {"Address": "10.0.0.1"}),
        ("PUT", "catalog/register", {"Node": "ext", "Address": "10.0.0.1", "Service": {"ID": "x"}}),
        ("PUT", "catalog/register", {"Node": "ext", "SkipNodeUpdate": True, "Check": {"CheckID": "c", "ServiceID": "x"}}),
        ("PUT", "catalog/deregister", {}),
        ("GET", "health/service/user?stale&consistent", None),
    ],
)
def test_what_is_wrong_is_told_in_the_same_words(both: Both, method: str, path: str, body: Any) -> None:
    """Status and text: clients decide by both."""
    assert both.same(method, f"/v1/{path}", body).status >= 400


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "agent/service/register", {"Name": "k", "Check": {"TTL": "5s", "HTTP": "http://127.0.0.1/", "Interval": "5s"}}),
        ("PUT", "agent/service/register", {"Name": "k", "Check": {"TTL": "5s", "Status": "odd"}}),
        ("PUT", "agent/service/register", {"Name": "k", "Bogus": 5}),
        ("PUT", "agent/check/update/none", {"Status": "odd"}),
        ("GET", "health/service/user?index=abc", None),
        ("GET", "health/service/user?index=1&wait=abc", None),
        ("GET", "health/service/user?passing=perhaps", None),
        ("GET", "health/service/", None),
        ("GET", "health/service/user?dc=elsewhere", None),
        ("PUT", "catalog/register", {"Node": "ext", "Address": "10.0.0.1", "Datacenter": "elsewhere"}),
        ("POST", "agent/service/register", None),
    ],
)
def test_what_is_wrong_has_the_same_status(both: Both, method: str, path: str, body: Any) -> None:
    """Where our words say more than Consul's."""
    ours, theirs = (each.ask(method, f"/v1/{path}", body) for each in both)
    assert ours.status == theirs.status >= 400


def test_members_and_the_agent_itself_have_the_same_shape(both: Both) -> None:
    """Every key that other clients read, with a value of the same type."""
    ours, theirs = (each.ask("GET", "/v1/agent/members").body[0] for each in both)
    assert {name: type(value) for name, value in ours.items()} == {name: type(value) for name, value in theirs.items()}
    assert set(ours["Tags"]) <= set(theirs["Tags"])
    mine, other = (each.ask("GET", "/v1/agent/self").body for each in both)
    assert list(mine["Config"]) == list(other["Config"])
    assert {name: type(value) for name, value in mine["Config"].items()} == {
        name: type(value) for name, value in other["Config"].items()
    }
    assert set(mine) <= set(other)
    for each in both:
        assert re.fullmatch(r"[\d.]+:\d+", each.ask("GET", "/v1/status/leader").body)
        assert each.ask("GET", "/v1/status/peers").body == [each.ask("GET", "/v1/status/leader").body]


WATCHED = (
    "health/service/user", "health/service/other", "health/checks/user", "health/state/any", "health/node/{node}",
    "catalog/services", "catalog/service/user", "catalog/service/other", "catalog/nodes", "catalog/node/{node}",
)  # fmt: skip


def test_what_concerns_a_read_moves_its_index_in_both(both: Both) -> None:
    """Ours moves where Consul's does, but for reads whose content stayed: Consul's tables are coarser than its answers."""

    def indexes(each: Registry) -> dict[str, int]:
        found = {}
        for path in WATCHED:
            url = f"{each.url}/v1/{path.replace('{node}', each.node)}"
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                found[path] = int(answer.headers["X-Consul-Index"])
        return found

    def content(each: Registry) -> dict[str, str]:
        return {path: json.dumps(each.ask("GET", f"/v1/{path}").body) for path in WATCHED}

    for path, body in (
        ("agent/service/register", USER),
        ("agent/check/fail/beat", None),
        ("agent/check/fail/beat", None),
        ("agent/service/register", {**USER, "Tags": ["other"], "Checks": [TTL]}),
        ("agent/maintenance?enable=true", None),
        ("catalog/register", ENTRY),
        ("catalog/deregister", {"Node": "pod-1"}),
        ("agent/service/deregister/u1", None),
    ):
        before = indexes(both.ours), indexes(both.theirs), content(both.ours)
        both.put(f"/v1/{path}", body)
        compare(both, ("health/service/user", "health/state/any", "catalog/nodes"))
        after = indexes(both.ours), indexes(both.theirs), content(both.ours)
        for read in WATCHED:
            if before[2][read] != after[2][read]:
                moved = [after[side][read] > before[side][read] for side in (0, 1)]
                assert moved == [True, True], f"{read} after {path}"
