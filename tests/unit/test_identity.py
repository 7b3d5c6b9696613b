"""Who an instance is, and where others reach it."""

import pytest

from mizzen.assembly.identity import advertised, instance_of
from mizzen.words.errors import StartError


def where(**given: object) -> str:
    options: dict[str, object] = {
        "advertise": None,
        "host": "0.0.0.0",
        "environ": {},
        "registry_loopback": True,
        "towards": None,
    }
    return advertised(**{**options, **given})  # type: ignore[arg-type]


def test_explicit_address_wins() -> None:
    """What the configuration says wins over everything else."""
    assert where(advertise="10.0.0.9", environ={"POD_IP": "10.0.0.8"}, host="10.0.0.7") == "10.0.0.9"


def test_pod_address_comes_next() -> None:
    """Inside a pod its own address is announced."""
    assert where(environ={"POD_IP": "10.0.0.8"}, registry_loopback=False) == "10.0.0.8"


def test_bound_address_comes_before_the_route() -> None:
    """A service that binds one address announces it."""
    assert where(host="10.0.0.7", registry_loopback=False) == "10.0.0.7"


def test_loopback_registry_means_loopback_address() -> None:
    """Where only this machine reads the registry, loopback is what its readers reach."""
    assert where() == "127.0.0.1"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_is_refused_in_a_remote_registry(host: str) -> None:
    """An address that nobody else reaches is never announced to others."""
    with pytest.raises(StartError, match="only this machine reaches"):
        where(host=host, registry_loopback=False)


def test_id_survives_a_restart_and_the_boot_id_does_not() -> None:
    """Two lives of one instance share the id and differ in the boot id."""
    first, second = (instance_of("user", "10.0.0.7", 8101, instance_id=None, version="1") for _ in range(2))
    assert first.id == second.id == "user-10.0.0.7-8101"
    assert first.boot != second.boot


def test_configured_id_is_taken() -> None:
    """An ``instance_id`` of the configuration is the id."""
    assert instance_of("user", "10.0.0.7", 8101, instance_id="blue", version="").id == "blue"
