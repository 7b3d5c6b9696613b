"""Real Consul agents: one that keeps nothing, a server with a data directory and ACLs, a cluster of three and its client.

Each agent is on loopback with every port its own. A test starts them by one of three context managers::

    with development(folder) as agent: ...             # -dev: a restart has forgotten everything
    with server(folder, acl=True) as agent: ...        # keeps its state in a data directory; ``agent.token(rules)``
    with cluster(folder) as (servers, client): ...     # three servers, and the client agent that a service talks to

and breaks them: ``kill`` (SIGKILL), ``freeze`` and ``thaw`` (SIGSTOP, SIGCONT), ``start`` again on the same ports with
its state, or after ``forget`` without. ``start`` returns once the agent answers and its node is in the catalog; to start
one that cannot be ready (a server without its peers) say ``ready=False``. All of it blocks: async tests call it by
``asyncio.to_thread``. ``get``, ``put`` and ``answer`` speak to the agent as an operator does, with the management token
where there is one.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ports import free_port

from .binaries import need
from .process import PATIENCE, ServerProcess

HOST = "127.0.0.1"
ANSWER = 5.0
"""Seconds for an answer to an operator."""


class Consul:
    """One agent. ``management`` is the token that may do everything, where ACLs are on."""

    def __init__(
        self,
        name: str,
        folder: Path,
        config: dict[str, Any],
        *,
        dev: bool = False,
        management: str | None = None,
        gossip: int | None = None,
    ) -> None:
        self.name = name
        self.host, self.port = HOST, free_port()
        self.management = management
        self.data = folder / f"{name}-data"
        ports = {"http": self.port, "serf_lan": gossip or free_port(), "server": free_port()}
        said = {
            "node_name": name,
            # the same machine after a restart without its data directory, as a container with a mounted id is
            "node_id": str(uuid.uuid5(uuid.NAMESPACE_OID, str(folder / name))),
            "bind_addr": HOST,
            "client_addr": HOST,
            "ports": {**ports, **dict.fromkeys(("https", "dns", "grpc", "grpc_tls", "serf_wan"), -1)},
            "log_level": "warn",
            "disable_update_check": True,
            "performance": {"raft_multiplier": 1},  # elections of a second
            **config,
            **({} if dev else {"data_dir": str(self.data)}),
        }
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{name}.json"
        file.write_text(json.dumps(said, indent=1))
        command = [need("consul"), "agent", *(["-dev"] if dev else []), f"-config-file={file}"]
        self.process = ServerProcess(name, command, folder=folder)

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    @property
    def url(self) -> str:
        """As ``discovery.url`` has it."""
        return f"consul://{self.host}:{self.port}"

    # -- its life

    def start(self, *, ready: bool = True) -> None:
        """Start it, on the ports and the state it had; returns once it is ready, unless told not to wait."""
        self.process.start()
        if ready:
            self.until_ready()

    def until_ready(self, patience: float = PATIENCE) -> None:
        """Wait until it answers, there is a leader and its own node is in the catalog."""
        self.process.until(self._ready, patience)

    def kill(self) -> None:
        self.process.kill()

    def freeze(self) -> None:
        self.process.freeze()

    def thaw(self) -> None:
        self.process.thaw()

    def stop(self) -> None:
        self.process.stop()

    def forget(self) -> None:
        """Remove what it kept; only while it does not run."""
        assert not self.process.running, f"{self.name} runs"
        shutil.rmtree(self.data, ignore_errors=True)

    def restart(self, *, forget: bool = False, ready: bool = True) -> None:
        """Kill it and start it again at once, with its state or without."""
        self.kill()
        if forget:
            self.forget()
        self.start(ready=ready)

    def _ready(self) -> bool:
        try:
            checks = self.get(f"/v1/health/node/{self.name}", patience=1.0)
        except (OSError, ValueError):
            return False
        return any(check["CheckID"] == "serfHealth" and check["Status"] == "passing" for check in checks)

    # -- what an operator says to it

    def answer(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, patience: float = ANSWER
    ) -> tuple[int, bytes]:
        """Status and body of a request; ``OSError`` when there is no answer."""
        token = token if token is not None else self.management
        request = urllib.request.Request(
            f"http://{self.host}:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Consul-Token": token} if token else {},
        )
        try:
            with urllib.request.urlopen(request, timeout=patience) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def get(self, path: str, *, patience: float = ANSWER) -> Any:
        """The JSON at that path; ``OSError`` for any answer but 200."""
        return self._json("GET", path, None, patience)

    def put(self, path: str, body: Any = None, *, patience: float = ANSWER) -> Any:
        """What it answers as JSON, None for nothing; ``OSError`` for any answer but 200."""
        return self._json("PUT", path, body, patience)

    def _json(self, method: str, path: str, body: Any, patience: float) -> Any:
        status, said = self.answer(method, path, body, patience=patience)
        if status != 200:
            raise OSError(f"{self.name} answered {status} to {method} {path}: {said.decode(errors='replace')[:200]}")
        return json.loads(said) if said.strip() else None

    def maintenance(self, instance: str, on: bool, reason: str = "") -> None:
        """What ``consul maint -service=…`` does."""
        self.put(f"/v1/agent/service/maintenance/{instance}?enable={str(on).lower()}&reason={reason}")

    def token(self, rules: str) -> str:
        """A new token with these rules, such as ``service_prefix "" { policy = "write" }``."""
        name = f"policy-{uuid.uuid4().hex[:12]}"
        self.put("/v1/acl/policy", {"Name": name, "Rules": rules})
        return str(self.put("/v1/acl/token", {"Policies": [{"Name": name}]})["SecretID"])

    def revoke(self, token: str) -> None:
        """Delete a token; servers and clients forget it within ``acl.token_ttl``, which is a second here."""
        accessor = json.loads(self.answer("GET", "/v1/acl/token/self", token=token)[1])["AccessorID"]
        self.answer("DELETE", f"/v1/acl/token/{accessor}")

    def leads(self) -> bool:
        """Whether it is the leader of its servers, as it says itself."""
        try:
            said = self.get("/v1/agent/self", patience=1.0)
        except (OSError, ValueError):
            return False
        return bool(said["Stats"].get("consul", {}).get("leader") == "true")

    def __repr__(self) -> str:
        return f"<Consul {self.name} {self.url} {'up' if self.process.running else 'down'}>"


class Servers:
    """Three servers of one datacenter."""

    def __init__(self, members: Sequence[Consul]) -> None:
        self.members = list(members)

    def leader(self) -> Consul:
        """The one that leads; ``AssertionError`` when none does."""
        found = next((each for each in self.members if each.process.running and each.leads()), None)
        assert found is not None, f"nobody leads {self.members}"
        return found

    def lose_quorum(self) -> list[Consul]:
        """Kill two of three, the leader among them; returns those."""
        leader = self.leader()
        gone = [leader, next(each for each in self.members if each is not leader)]
        for each in gone:
            each.kill()
        return gone

    def start(self) -> None:
        """Start those that do not run; returns once all are ready."""
        for each in self.members:
            if not each.process.running:
                each.start(ready=False)
        for each in self.members:
            each.until_ready()

    def stop(self) -> None:
        for each in self.members:
            each.stop()


@contextlib.contextmanager
def development(folder: Path, name: str = "dev") -> Iterator[Consul]:
    """An agent in development mode: it is its own server and keeps nothing."""
    agent = Consul(name, folder, {"server": True}, dev=True)
    with _running(agent):
        yield agent


@contextlib.contextmanager
def server(folder: Path, name: str = "server", *, acl: bool = False, datacenter: str = "dc1") -> Iterator[Consul]:
    """A single server that keeps its state; with ``acl`` whoever shows no token may do nothing."""
    management = str(uuid.uuid4()) if acl else None
    config = _server(1) | {"datacenter": datacenter} | ({"acl": _acl(management)} if management else {})
    agent = Consul(name, folder, config, management=management)
    with _running(agent):
        yield agent


@contextlib.contextmanager
def cluster(folder: Path, *, acl: bool = False) -> Iterator[tuple[Servers, Consul]]:
    """Three servers and a client agent, all with data directories."""
    management = str(uuid.uuid4()) if acl else None
    more: dict[str, Any] = {"acl": _acl(management)} if management else {}
    gossip = [free_port() for _ in range(3)]
    more["retry_join"], more["retry_interval"] = [f"{HOST}:{port}" for port in gossip], "1s"
    members = [
        Consul(f"server{number}", folder, _server(3) | more, management=management, gossip=port)
        for number, port in enumerate(gossip, 1)
    ]
    client = Consul("client", folder, {"server": False} | more, management=management)
    servers = Servers(members)
    try:
        servers.start()
        client.start()
        yield servers, client
    finally:
        client.kill()
        for each in members:
            each.kill()


@contextlib.contextmanager
def _running(agent: Consul) -> Iterator[None]:
    try:
        agent.start()
        yield
    finally:
        agent.kill()


def _server(expect: int) -> dict[str, Any]:
    return {"server": True, "bootstrap_expect": expect, "connect": {"enabled": False}}


def _acl(management: str) -> dict[str, Any]:
    return {
        "enabled": True,
        "default_policy": "deny",
        "down_policy": "extend-cache",
        "token_ttl": "1s",
        "policy_ttl": "1s",
        "tokens": {"initial_management": management, "agent": management},
    }
