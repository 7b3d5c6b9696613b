"""Changing the registry is one line: the example system, untouched but for ``discovery.url``, on each of them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from enclosed import ENCLOSED, INSIDE, run_enclosed
from fleet import SHOP, Fleet, Process, ask, until
from ports import free_port
from servers.binaries import need
from servers.process import ServerProcess
from servers.stages import ConsulStage, EtcdStage

pytestmark = [pytest.mark.wire]

LEFT_OUT = shutil.ignore_patterns("*.db*", "__pycache__", ".pytest_cache")
ZONE = f"""
$ORIGIN cluster.local.
@ 5 IN SOA ns.dns.cluster.local. admin.cluster.local. 1 3600 600 86400 5
user.shop.svc 5 IN A {INSIDE}
"""
COREFILE = """
cluster.local:53 {{
  bind 127.0.0.1
  errors
  file {zone} cluster.local
}}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Fleet]:
    """The example in a folder of its own."""
    system = tmp_path / "shop"
    shutil.copytree(SHOP, system, ignore=LEFT_OUT)
    with Fleet(tmp_path, system, host="0.0.0.0") as fleet:
        yield fleet


def change_registry(fleet: Fleet, url: str) -> None:
    """Change that line."""
    file = fleet.system / "mizzen.toml"
    text, changed = re.subn(r'^url = "auto".*$', f'url = "{url}"', file.read_text(), flags=re.MULTILINE)
    assert changed == 1
    file.write_text(text)


def works(fleet: Fleet, port: int | None = None) -> None:
    """An order is answered with its user, and goes on to be with another user instance in place of the first."""
    user, order = fleet.start("user", port=port).ready(), fleet.start("order").ready()
    assert until(lambda: is_whole(order), "order finds user")
    assert user.stop() == 0
    assert ask(f"{order.url}/orders/1").status == 503
    fleet.start("user", port=user.port).ready()
    assert until(lambda: is_whole(order), "order finds the next one")


def is_whole(order: Process) -> bool:
    answer = ask(f"{order.url}/orders/1")
    return answer.status == 200 and bool(answer.json()["user"]["name"])


@pytest.mark.skipif(ENCLOSED, reason="this is the inner run")
def test_on_the_embedded_registry(shop: Fleet) -> None:
    """The example works on the embedded registry."""
    port = free_port()
    shop.start_program("registry", ["registry", "--port", str(port)], port=port).ready("/v1/status/leader")
    change_registry(shop, f"consul://127.0.0.1:{port}")
    works(shop)


@pytest.mark.servers
@pytest.mark.skipif(ENCLOSED, reason="this is the inner run")
@pytest.mark.parametrize("kind", [ConsulStage, EtcdStage], ids=lambda kind: kind.name)
def test_on_a_real_registry(shop: Fleet, kind: type[ConsulStage | EtcdStage]) -> None:
    """The example works on a real Consul agent and on a cluster of etcd."""
    folder = shop.folder / "registry"
    folder.mkdir()
    with kind(folder) as stage:
        change_registry(shop, stage.environ["MIZZEN__DISCOVERY__URL"])
        works(shop)


@pytest.mark.servers
@pytest.mark.skipif(ENCLOSED, reason="this is the inner run")
def test_on_the_names_of_a_cluster(tmp_path: Path) -> None:
    """The example works in a namespace whose names are those of a Kubernetes cluster, answered by CoreDNS."""
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text("nameserver 127.0.0.1\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\n")
    run_enclosed(__file__, expected=1, resolv_conf=resolv_conf)


if ENCLOSED:  # defined there only: outside it would be a skip in every run

    @pytest.mark.servers
    def test_on_the_names_of_a_cluster_inside(shop: Fleet) -> None:
        """With the DNS of a cluster, the name of the Service is all that order needs."""
        zone, corefile = shop.folder / "cluster.zone", shop.folder / "Corefile"
        zone.write_text(ZONE)
        corefile.write_text(COREFILE.format(zone=zone))
        dns = ServerProcess("coredns", [need("coredns"), "-conf", corefile], folder=shop.folder)
        dns.start()
        try:
            dns.until(lambda: "CoreDNS" in dns.tail())
            change_registry(shop, "kubernetes:?namespace=shop&port=8101")
            works(shop, port=8101)
        finally:
            dns.stop()
