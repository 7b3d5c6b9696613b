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


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "LOCALHOST.", "::1", "[::1]", "::ffff:127.0.0.1"])
def test_loopback_is_refused_in_a_remote_registry(host: str) -> None:
    """An address that nobody else reaches is never announced to others."""
    with pytest.raises(StartError, match="only this machine reaches"):
        where(host=host, registry_loopback=False)


def test_id_survives_a_restart_and_the_boot_id_does_not() -> None:
    """Two lives of one instance share the id and differ in the boot id."""
    first, second = (instance_of("user", "10.0.0.7", 8101, instance_id=None, version="1") for _ in range(2))
    assert first.id == second.id == "user-10.0.0.7-8101"
    assert first.boot != second.boot


@pytest.mark.parametrize("given", [{"advertise": "[fd00::7]"}, {"environ": {"POD_IP": "[fd00::7]"}}, {"host": "fd00::7"}])
def test_ipv6_addresses_have_no_brackets(given: dict[str, object]) -> None:
    """However one is written, it is announced, and named in the id, as an address."""
    assert where(registry_loopback=False, **given) == "fd00::7"
    assert instance_of("user", "fd00::7", 8101, instance_id=None, version="").id == "user-fd00::7-8101"


@pytest.mark.parametrize("given", [{"advertise": "0.0.0.0"}, {"advertise": "[::]"}, {"environ": {"POD_IP": "0.0.0.0"}}])
def test_every_address_is_none(given: dict[str, object]) -> None:
    """What one binds to mean all addresses is nothing that anybody could call."""
    with pytest.raises(StartError, match="which is every address and therefore none"):
        where(**given)


def test_what_the_configuration_says_of_an_instance_is_announced() -> None:
    """Zone, weight, tags and metadata come from the configuration; the boot id is beside them."""
    made = instance_of("user", "10.0.0.7", 1, instance_id=None, version="1", zone="a", weight=3, tags=["x"], meta={"k": "v"})
    assert (made.zone, made.weight, made.tags) == ("a", 3, ("x",))
    assert made.meta == {"k": "v", "boot": made.boot}


@pytest.mark.parametrize("key", ["boot", "scheme", "version", "zone"])
def test_metadata_that_means_something_already_is_refused(key: str) -> None:
    """A boot id of one's own would make two lives look like one."""
    with pytest.raises(StartError, match=rf"services\.user\.meta sets {key}, which says something else already"):
        instance_of("user", "10.0.0.7", 8101, instance_id=None, version="", meta={key: "x"})


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ({"note": "x" * 513}, "services.user.meta.note has more than 512 characters"),
        ({"k" * 129: "x"}, f"services.user.meta has a key of more than 128 characters, {'k' * 20}…"),
        ({f"k{number}": "x" for number in range(61)}, "services.user.meta has more than 60 keys"),
    ],
)
def test_metadata_that_no_registry_takes_is_refused(meta: dict[str, str], said: str) -> None:
    """At start, instead of by the registry for ever after."""
    with pytest.raises(StartError) as raised:
        instance_of("user", "10.0.0.7", 8101, instance_id=None, version="", meta=meta)
    assert str(raised.value).startswith(said)


@pytest.mark.parametrize(
    "given",
    [
        {"advertise": "10.0.0.7:8101"},
        {"advertise": "http://10.0.0.7"},
        {"advertise": "user one"},
        {"environ": {"POD_IP": "10.0.0.7,fd00::7"}},
    ],
)
def test_what_is_no_address_is_refused(given: dict[str, object]) -> None:
    """Callers would leave such an instance out without a word."""
    with pytest.raises(StartError, match="which is neither an address nor a name of a host"):
        where(registry_loopback=False, **given)


def test_a_name_may_be_announced() -> None:
    """Such as a container's; whoever calls looks it up."""
    assert where(advertise="user_1.shop.internal", registry_loopback=False) == "user_1.shop.internal"
    assert where(advertise="fe80::1%eth0", registry_loopback=False) == "fe80::1%eth0"


def test_a_socket_is_where_it_is() -> None:
    """It is the place that a service on a Unix socket has; nothing announces it."""
    assert where(host="unix:/run/user one.sock") == "unix:/run/user one.sock"


def test_configured_id_is_taken() -> None:
    """An ``instance_id`` of the configuration is the id."""
    assert instance_of("user", "10.0.0.7", 8101, instance_id="blue", version="").id == "blue"
