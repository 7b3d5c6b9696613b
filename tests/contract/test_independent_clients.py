"""Clients of Consul that others wrote, against the embedded registry: what they ask for is there, or refused with a reason.

Consul's own command line and Prometheus are programs that ``make servers`` builds.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import consul
import pytest
from fleet import Fleet, Process, ask
from ports import free_port
from servers.binaries import missing, need
from servers.process import ServerProcess

pytestmark = pytest.mark.wire

PATIENCE = 30.0
"""Seconds for a program to start and say what it has to."""


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Process]:
    with Fleet(tmp_path) as fleet:
        yield fleet.with_registry()


def put(registry: Process, path: str, body: Any = None) -> None:
    answer = ask(f"{registry.url}/v1/{path}", "PUT", body=None if body is None else json.dumps(body).encode())
    assert answer.status == 200, answer.body


# -- py-consul


@pytest.fixture
def client(registry: Process) -> Iterator[consul.Consul]:
    client = consul.Consul(host="127.0.0.1", port=registry.port)
    yield client
    client.http.close()


def test_py_consul_registers_and_finds_an_instance(client: consul.Consul) -> None:
    """Through the agent: with a TTL check, which is critical until its first beat."""
    check = consul.Check.ttl("30s")
    client.agent.service.register(
        "user", service_id="u1", address="10.0.0.7", port=8101, tags=["v1"], meta={"a": "b"}, check=check
    )
    assert client.agent.services()["u1"]["Port"] == 8101
    assert client.health.service("user", passing=True)[1] == []
    client.agent.check.ttl_pass("service:u1", notes="fine")
    (found,) = client.health.service("user", passing=True, tag="v1")[1]
    assert (found["Service"]["Address"], found["Service"]["Meta"]) == ("10.0.0.7", {"a": "b"})
    assert [each["Output"] for each in client.health.checks("user")[1]] == ["fine"]
    assert client.catalog.services()[1] == {"consul": [], "user": ["v1"]}
    assert [each["ServiceID"] for each in client.catalog.service("user")[1]] == ["u1"]
    client.agent.service.deregister("u1")
    assert client.catalog.service("user")[1] == []


def test_py_consul_waits_for_a_change(client: consul.Consul, registry: Process) -> None:
    """A blocking query by its index: it answers with the change, and by its time when there is none."""
    index, nobody = client.health.service("user")
    assert nobody == []
    register = threading.Timer(0.2, put, (registry, "agent/service/register", {"Name": "user", "Port": 8101}))
    register.start()
    later, found = client.health.service("user", index=index, wait="20s")
    register.join()
    assert (len(found), int(later) > int(index)) == (1, True)
    assert client.health.service("user", index=later, wait="100ms")[0] == later


def test_py_consul_uses_maintenance_catalog_and_status(client: consul.Consul) -> None:
    """The rest of what its agent, catalog, health and status can do."""
    client.agent.service.register("user")
    client.agent.service.maintenance("user", enable=True, reason="disk")
    assert client.health.service("user", passing=True)[1] == []
    client.agent.service.maintenance("user", enable=False)
    client.agent.maintenance(enable=True)
    assert {each["CheckID"] for each in client.health.state("critical")[1]} == {"_node_maintenance"}
    client.agent.maintenance(enable=False)
    client.agent.check.register("memory", consul.Check.ttl("30s"))
    client.agent.check.deregister("memory")
    assert client.catalog.register("pod", "10.1.0.4", service={"Service": "stock", "Port": 80})
    assert {each["Node"] for each in client.catalog.nodes()[1]} == {"mizzen", "pod"}
    assert list(client.catalog.node("pod")[1]["Services"]) == ["stock"]
    assert client.catalog.deregister("pod")
    assert client.catalog.datacenters() == ["dc1"]
    assert client.agent.members()[0]["Name"] == client.agent.self()["Config"]["NodeName"] == "mizzen"
    assert client.status.peers() == [client.status.leader()]


def test_py_consul_is_told_what_there_is_not(client: consul.Consul) -> None:
    """An error with the reason, where an answer that ignores the question would mislead."""
    for question in (
        lambda: client.kv.get("a"),
        client.session.list,
        lambda: client.health.service("a", near="_agent"),
    ):
        with pytest.raises(consul.ConsulException, match="the embedded registry does not support"):
            question()


# -- Consul's own command line


class CommandLine:
    """``consul``, told where by ``CONSUL_HTTP_ADDR`` as everybody does."""

    def __init__(self, registry: Process, folder: Path) -> None:
        self._program = need("consul")
        self.folder = folder
        self._environ = {"CONSUL_HTTP_ADDR": f"127.0.0.1:{registry.port}", "HOME": str(folder), "PATH": os.environ["PATH"]}

    def __call__(self, *arguments: str, code: int = 0) -> str:
        command = [self._program, *arguments]
        done = subprocess.run(
            command, env=self._environ, cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def watching(self, *arguments: str) -> ServerProcess:
        return ServerProcess("watch", [self._program, "watch", *arguments], folder=self.folder, environ=self._environ)


@pytest.fixture
def command(registry: Process, tmp_path: Path) -> CommandLine:
    return CommandLine(registry, tmp_path)


@pytest.mark.servers
def test_the_consul_command_reads_the_catalog(command: CommandLine, registry: Process) -> None:
    """Members, nodes, services, datacenters and info, as tables of its own."""
    put(registry, "agent/service/register", {"Name": "user", "Port": 8101, "Tags": ["v1"]})
    put(registry, "catalog/register", {"Node": "pod", "Address": "10.1.0.4", "Service": {"Service": "stock"}})
    assert command("catalog", "services").split() == ["consul", "stock", "user"]
    assert command("catalog", "services", "-tags").split() == ["consul", "stock", "user", "v1"]
    assert command("catalog", "services", "-node=pod").split() == ["stock"]
    assert [line.split()[0] for line in command("catalog", "nodes").splitlines()] == ["Node", "mizzen", "pod"]
    assert [line.split()[0] for line in command("catalog", "nodes", "-service=user").splitlines()] == ["Node", "mizzen"]
    assert command("catalog", "datacenters").split() == ["dc1"]
    member = command("members").splitlines()[1].split()
    assert member[:5] == ["mizzen", "127.0.0.1:8301", "alive", "server", "1.19.2"]
    assert "services = 1" in command("info")


@pytest.mark.servers
def test_the_consul_command_registers_and_puts_into_maintenance(command: CommandLine, registry: Process) -> None:
    """``services register``, ``maint``, ``services deregister``: each is seen in the registry at once."""

    def passing() -> int:
        return len(ask(f"{registry.url}/v1/health/service/web?passing").json())

    command("services", "register", "-name=web", "-port=80", "-address=10.0.0.4", "-tag=v1", "-meta=a=b")
    assert passing() == 1
    command("maint", "-enable", "-service=web", "-reason=new disk")
    assert passing() == 0
    assert "new disk" in command("maint")
    command("maint", "-disable", "-service=web")
    assert passing() == 1
    command("maint", "-enable", "-reason=rack")
    assert passing() == 0
    command("maint", "-disable")
    file = command.folder / "web2.json"
    file.write_text(
        json.dumps({"Service": {"ID": "web2", "Name": "web", "Port": 81, "Check": {"TTL": "30s", "Status": "passing"}}})
    )
    command("services", "register", str(file))
    assert passing() == 2
    command("services", "deregister", "-id=web2")
    command("services", "deregister", "-id=web")
    assert passing() == 0
    assert 'Unknown service ID "web"' in command("services", "deregister", "-id=web", code=1)


@pytest.mark.servers
def test_the_consul_command_watches(command: CommandLine, registry: Process) -> None:
    """``consul watch`` with a handler tells every change, by blocking queries."""
    watch = command.watching("-type=service", "-service=web", "sh", "-c", "cat >> seen; echo >> seen")
    seen = watch.folder / "seen"
    watch.start()
    try:
        watch.until(lambda: seen.exists() and seen.read_text().split() == ["[]"], PATIENCE)
        put(registry, "agent/service/register", {"ID": "w1", "Name": "web", "Port": 80})
        watch.until(lambda: '"w1"' in seen.read_text(), PATIENCE)
        put(registry, "agent/service/deregister/w1")
        watch.until(lambda: seen.read_text().split()[-1] == "[]", PATIENCE)
    finally:
        watch.kill()


@pytest.mark.servers
@pytest.mark.parametrize("arguments", ["kv get a", "operator raft list-peers", "leave", "rtt mizzen", "intention list"])
def test_the_consul_command_is_told_what_there_is_not(command: CommandLine, arguments: str) -> None:
    """It prints the refusal, and its exit code is 1."""
    assert "the embedded registry does not support" in command(*arguments.split(), code=1)


# -- Prometheus


PROMETHEUS = """
scrape_configs:
  - job_name: mizzen
    consul_sd_configs:
      - server: 127.0.0.1:{port}
        refresh_interval: 1s
    relabel_configs:
      - source_labels: [__meta_consul_service]
        regex: consul
        action: drop
      - source_labels: [__meta_consul_service_id]
        target_label: instance
"""


@pytest.mark.servers
def test_prometheus_discovers_what_is_registered(registry: Process, tmp_path: Path) -> None:
    """consul_sd finds an instance with its metadata and health, and lets go of it when it is withdrawn."""
    (tmp_path / "prometheus.yml").write_text(PROMETHEUS.format(port=registry.port))
    port = free_port()
    options = {"web.listen-address": f"127.0.0.1:{port}", "storage.tsdb.path": tmp_path / "data", "log.level": "warn"}
    options["config.file"] = tmp_path / "prometheus.yml"
    command = [need("prometheus"), *(f"--{name}={value}" for name, value in options.items())]
    prometheus = ServerProcess("prometheus", command, folder=tmp_path)

    def targets() -> dict[str, dict[str, str]]:
        answer = ask(f"http://127.0.0.1:{port}/api/v1/targets")
        active = answer.json()["data"]["activeTargets"] if answer.status == 200 else []  # 503 while it starts
        return {each["labels"]["instance"]: each["discoveredLabels"] for each in active}

    def found(*instances: str) -> Callable[[], bool]:
        def there() -> bool:
            with contextlib.suppress(OSError):
                return targets().keys() == set(instances)
            return False

        return there

    check = {"TTL": "90s", "Status": "passing"}
    user = {"ID": "u1", "Name": "user", "Address": "127.0.0.1", "Port": registry.port, "Meta": {"zone": "a"}, "Check": check}
    put(registry, "agent/service/register", user)
    prometheus.start()
    try:
        try:
            prometheus.until(found("u1"), PATIENCE)
        except AssertionError as error:
            if "consul_sd_configs not found" in str(error):  # as Debian makes it
                missing("the prometheus on PATH has no consul_sd: make servers builds one that has it")
            raise
        labels = targets()["u1"]
        assert labels["__address__"] == f"127.0.0.1:{registry.port}"
        assert (labels["__meta_consul_dc"], labels["__meta_consul_node"]) == ("dc1", "mizzen")
        assert (labels["__meta_consul_service_metadata_zone"], labels["__meta_consul_health"]) == ("a", "passing")
        put(registry, "agent/service/register", {"ID": "s1", "Name": "stock", "Port": 1})
        prometheus.until(found("u1", "s1"), PATIENCE)
        put(registry, "agent/service/deregister/u1")
        prometheus.until(found("s1"), PATIENCE)
    finally:
        prometheus.kill()
