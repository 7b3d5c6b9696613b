"""The address that we announce, found by the real routes of this machine."""

from __future__ import annotations

import socket

import pytest

from mizzen.assembly.identity import advertised, is_loopback
from mizzen.words.errors import StartError

pytestmark = pytest.mark.wire


def found(towards: tuple[str, int] | None) -> str:
    """What is announced in a registry there; skips where this machine is on no network."""
    try:
        return advertised(advertise=None, host="0.0.0.0", environ={}, registry_loopback=False, towards=towards)
    except StartError:
        pytest.skip("this machine has no address but loopback")


def ours(address: str) -> bool:
    """Whether this machine has it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
    return True


@pytest.mark.parametrize("towards", [None, ("192.0.2.1", 8500), ("registry.invalid", 8500)], ids=["none", "address", "no name"])
def test_the_route_tells_an_address_of_this_machine(towards: tuple[str, int] | None) -> None:
    """Also while the registry's name has no address: it may be down when we start, and that is no reason not to serve."""
    address = found(towards)
    assert not is_loopback(address)
    assert ours(address)


def test_the_way_to_ourselves_is_our_own_address() -> None:
    """An agent on this machine that listens on its outer address gets that one, and not loopback."""
    address = found(None)
    assert found((address, 8500)) == address


def test_a_registry_on_ipv6_gets_an_ipv6_address() -> None:
    """The route is looked up in the registry's own family."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("2001:db8::1", 9))
        except OSError:
            pytest.skip("this machine has no way to IPv6")
        mine = probe.getsockname()[0].partition("%")[0]
    assert found(("2001:db8::1", 8500)) == mine


def test_loopback_is_never_announced_to_others() -> None:
    """A registry said to be elsewhere whose name means this machine leads to an outer address, or to an error."""
    assert not is_loopback(found(("localhost", 8500)))
