"""TLS and Unix sockets of whole services: configured by file, found by a registry, asked by the command line."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from certificates import Authority, serial_in, serial_of
from fleet import PATIENCE, Fleet, Process, ask, until
from ports import free_port

pytestmark = pytest.mark.wire

CODE = """
from mizzen import Client, Router, Service


class Users:
    def __init__(self, client: Client) -> None:
        self.client = client


async def user() -> dict[str, str]:
    return {"name": "ann"}


async def order(users: Users) -> dict[str, str]:
    return await users.client.get("/user", into=dict[str, str])


def build_user() -> Service:
    service = Service("user")
    service.mount(lambda router: router.get("/user", user))
    return service


def build_order() -> Service:
    service = Service("order")
    service.provide(Users(service.client("user")))
    service.mount(lambda router: router.get("/order", order))
    return service
"""

SYSTEM = """
[services.user]
build = "pair:build_user"
{user}

[services.order]
build = "pair:build_order"
port = {order_port}
{order}
"""


class System:
    """A folder with two services, its certificates and what it takes to run them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder / "tls")
        self.server, self.caller = self.authority.issue(), self.authority.issue("order")
        self.order_port, self.user_port = free_port(), free_port()
        (folder / "pair.py").write_text(CODE)

    def configure(self, *, user: str, order: str = "") -> None:
        (self.folder / "mizzen.toml").write_text(SYSTEM.format(user=user, order=order, order_port=self.order_port))

    def mizzen(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """One command in that folder."""
        env = {**os.environ, **more, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [sys.executable, "-m", "mizzen", *arguments, "--dir", str(self.folder)]
        return subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path) as made:
        yield made


def start(fleet: Fleet, system: System, name: str) -> Process:
    port = system.order_port if name == "order" else system.user_port
    return fleet.start_program(name, ["run", name, "--dir", str(system.folder)], port=port)


def healthy(system: System, name: str) -> bool:
    return system.mizzen("health", "--service", name).returncode == 0


def serial(system: System) -> int:
    context = ssl.create_default_context(cafile=system.authority.ca)
    context.load_cert_chain(*system.caller)
    connection = http.client.HTTPSConnection("127.0.0.1", system.user_port, timeout=PATIENCE, context=context)
    connection.connect()
    try:
        return serial_of(connection.sock.getpeercert(binary_form=True) or b"")
    finally:
        connection.close()


TLS = """
port = {port}
host = "127.0.0.1"
tls = {{ cert = "tls/server.pem", key = "tls/server.key"{more} }}
"""
CLIENT = 'clients.user.tls = { ca = "tls/ca.pem", cert = "tls/order.pem", key = "tls/order.key" }'


def test_a_service_speaks_https(fleet: Fleet, system: System) -> None:
    """It is registered as https with a check that passes, called by its peer, and asked by health and call."""
    fleet.with_registry()
    system.configure(user=TLS.format(port=system.user_port, more=""), order='clients.user.tls.ca = "tls/ca.pem"')
    start(fleet, system, "user")
    until(lambda: healthy(system, "user"), "user is healthy")
    start(fleet, system, "order").ready()
    until(lambda: fleet.instances("user"), "user is registered")
    until(lambda: ask(f"http://127.0.0.1:{system.order_port}/order").json() == {"name": "ann"}, "order reaches user")
    assert fleet.registry is not None
    checks = ask(f"{fleet.registry.url}/v1/health/service/user").json()[0]
    assert checks["Service"]["Meta"]["scheme"] == "https"
    url = f"consul://127.0.0.1:{fleet.registry.port}"
    called = system.mizzen("call", "user", "GET", "/user", MIZZEN__DISCOVERY__URL=url)
    assert (called.returncode, called.stdout) == (0, '{"name":"ann"}\n'), called.stderr
    called = system.mizzen("call", "user", "GET", "/user")
    assert (called.returncode, called.stdout) == (0, '{"name":"ann"}\n'), called.stderr

    def probed() -> bool:
        entries = ask(f"{fleet.registry.url}/v1/health/service/user").json()[0]["Checks"]  # type: ignore[union-attr]
        return any("200 OK" in check["Output"] and check["Status"] == "passing" for check in entries)

    until(probed, "the registry's own probe of /health passes over https", patience=2 * PATIENCE)


def test_callers_show_a_certificate(fleet: Fleet, system: System) -> None:
    """With client_ca the configured peer gets through, who shows nothing does not, and health still can ask; certificates
    are replaced while it runs."""
    system.configure(
        user=TLS.format(port=system.user_port, more=', client_ca = "tls/ca.pem"'),
        order=f'{CLIENT}\nclients.user.url = "https://127.0.0.1:{system.user_port}"',
    )
    user = start(fleet, system, "user")
    until(lambda: healthy(system, "user"), "user is healthy")
    start(fleet, system, "order").ready()
    assert ask(f"http://127.0.0.1:{system.order_port}/order").json() == {"name": "ann"}
    refused = system.mizzen("health", f"https://127.0.0.1:{system.user_port}", SSL_CERT_FILE=system.authority.ca)
    assert refused.returncode == 1
    stranger = system.mizzen("health", f"https://127.0.0.1:{system.user_port}")
    assert "SSL_CERT_FILE names the file of who signed it" in stranger.stderr
    first = serial(system)
    system.authority.issue()
    until(lambda: serial(system) != first, "the new certificate is served")
    assert serial(system) == serial_in(system.server.cert)
    assert ask(f"http://127.0.0.1:{system.order_port}/order").json() == {"name": "ann"}
    assert user.stop() == 0
    assert not [line for line in user.lines() if line["level"] in ("warning", "error", "critical") and "TLS" in line["message"]]


def test_the_admin_port_stays_plain(fleet: Fleet, system: System) -> None:
    """The platform's questions are answered by HTTP on a port of their own, though the service speaks HTTPS."""
    admin = free_port()
    user = TLS.format(port=system.user_port, more=', client_ca = "tls/ca.pem"') + f"admin.port = {admin}"
    system.configure(user=user)
    start(fleet, system, "user")
    until(lambda: ask(f"http://127.0.0.1:{admin}/ready").status == 200, "user is ready")
    assert healthy(system, "user")


def test_workers_speak_https(fleet: Fleet, system: System) -> None:
    """Every worker answers with the certificate, is asked by the registry as one instance, and takes a new one."""
    fleet.with_registry()
    system.configure(user=TLS.format(port=system.user_port, more=', client_ca = "tls/ca.pem"') + "workers = 2", order=CLIENT)
    user = start(fleet, system, "user")
    until(lambda: healthy(system, "user"), "user is healthy")
    start(fleet, system, "order").ready()
    until(lambda: fleet.instances("user"), "user is registered")
    until(lambda: ask(f"http://127.0.0.1:{system.order_port}/order").json() == {"name": "ann"}, "order reaches user")
    first = serial(system)
    system.authority.issue()
    fresh = serial_in(system.server.cert)
    until(lambda: {serial(system) for _ in range(20)} == {fresh}, "each worker serves the new certificate")
    assert fresh != first
    assert ask(f"http://127.0.0.1:{system.order_port}/order").json() == {"name": "ann"}
    assert user.stop() == 0


def test_health_has_one_limit_for_all_of_an_answer(system: System) -> None:
    """A head that trickles in, a byte now and then, is no answer within two seconds."""

    def trickle() -> None:
        line, _ = listener.accept()
        with line, suppress(OSError):
            line.sendall(b"HTTP/1.1 200 OK\r\nx: ")
            while not over.wait(0.05):
                line.sendall(b"x")

    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = threading.Thread(target=trickle)
        peer.start()
        began = time.monotonic()
        ended = system.mizzen("health", f"http://127.0.0.1:{listener.getsockname()[1]}")
        assert time.monotonic() - began < PATIENCE / 2
        over.set()
        peer.join()
    assert ended.returncode == 1
    assert "no answer within 2s" in ended.stderr


def test_a_wrong_certificate_is_an_error_at_start(system: System) -> None:
    """It names the file, the place in mizzen.toml, and the fix."""
    system.configure(user=TLS.format(port=system.user_port, more="").replace("server.key", "order.key"))
    ended = system.mizzen("run", "user")
    assert ended.returncode != 0
    assert f"services.user.tls.key: {system.folder}/tls/order.key does not belong to the certificate in" in ended.stderr
    assert "mizzen.toml:7  services.user.tls.key" in ended.stderr
    assert "fix: let services.user.tls.key name a readable PEM file" in ended.stderr


def test_a_service_on_a_unix_socket(fleet: Fleet, system: System, tmp_path_factory: pytest.TempPathFactory) -> None:
    """It is called by its peer's url, by call and by health, and its socket is gone after the stop."""
    path = tmp_path_factory.mktemp("s") / "u.sock"
    system.configure(user=f'host = "unix:{path}"', order=f'clients.user.url = "http+unix://{path}"')
    user = start(fleet, system, "user")
    until(lambda: healthy(system, "user"), "user is healthy")
    start(fleet, system, "order").ready()
    assert ask(f"http://127.0.0.1:{system.order_port}/order").json() == {"name": "ann"}
    called = system.mizzen("call", "user", "GET", "/user")
    assert (called.returncode, called.stdout) == (0, '{"name":"ann"}\n'), called.stderr
    encoded = str(path).replace("/", "%2F")
    for url in (f"http+unix://{path}", f"http+unix://{encoded}", f"http+unix://{encoded}/live"):
        assert system.mizzen("health", url).returncode == 0, url
    again = system.mizzen("run", "user")
    assert again.returncode != 0
    assert f"error: unix:{path} is in use by " in again.stderr
    assert user.stop() == 0
    assert not os.path.lexists(path)
