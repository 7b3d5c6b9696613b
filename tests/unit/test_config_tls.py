"""TLS and Unix sockets as they are written in mizzen.toml, and as `mizzen config` shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mizzen.rules.config import ClientTlsConfig, Secret, System, TlsConfig, is_secret, origins, parse
from mizzen.words.errors import ConfigError

ORDER = """[services.order]
build = "shop.order.service:build"
port = 8102
"""


def read(more: str = "", text: str = ORDER, **environ: str) -> System:
    return parse(text + more, Path("/shop/mizzen.toml"), environ)


def test_the_certificates_of_a_service() -> None:
    """cert is needed; key may be in the same file; the key's password is a secret from the environment."""
    order = read('tls = { cert = "a.pem", client_ca = "ca.pem" }', ORDER__TLS__KEY_PASSWORD="hush").services["order"]
    assert order.tls == TlsConfig(cert="a.pem", key_password=Secret("hush"), client_ca="ca.pem")
    assert "hush" not in repr(order.tls)
    assert read().services["order"].tls is None


def test_how_a_peer_is_verified() -> None:
    """A client's table names who is trusted, what is shown, and the name to expect."""
    client = read('clients.user.tls = { ca = "ca.pem", cert = "a.pem", key = "a.key", server_name = "user.example" }')
    tls = client.services["order"].clients["user"].tls
    assert tls == ClientTlsConfig(ca="ca.pem", cert="a.pem", key="a.key", server_name="user.example")


def test_verification_cannot_be_turned_off() -> None:
    """There is no such setting, on neither side."""
    assert list(ClientTlsConfig.__struct_fields__) == ["ca", "cert", "key", "key_password", "server_name"]
    assert list(TlsConfig.__struct_fields__) == ["cert", "key", "key_password", "client_ca"]


def test_each_setting_is_shown_with_its_origin() -> None:
    """Paths of keys are shown, since they are no secrets; passwords are not."""
    system = read(
        'tls.cert = "a.pem"\ntls.key = "a.key"\ntls.key_password = "hush"\n'
        'clients.user.tls.key = "b.key"\nclients.user.tls.cert = "b.pem"\nsocket_mode = 0o600\n'
    )
    shown = {row.key: (row.value, row.origin) for row in origins(system, "order")}
    assert shown["services.order.tls.key"] == ("a.key", "mizzen.toml:5")
    assert shown["services.order.tls.key_password"] == ("***", "mizzen.toml:6")
    assert shown["services.order.tls.client_ca"] == ("not set", "default")
    assert shown["services.order.clients.user.tls.key"] == ("b.key", "mizzen.toml:7")
    assert shown["services.order.socket_mode"] == ("0600", "mizzen.toml:9")


def test_other_keys_stay_secret() -> None:
    """Only TLS's own key is a file's name; a setting of a service that is called so is a secret as before."""
    assert not is_secret(("services", "order", "tls", "key"))
    assert is_secret(("services", "order", "settings", "tls", "key"))
    assert is_secret(("services", "order", "settings", "key"))


def test_a_service_on_a_unix_socket() -> None:
    """It has a path instead of a port."""
    order = read(text='[services.order]\nbuild = "a:b"\nhost = "unix:/run/order.sock"\n').services["order"]
    assert (order.socket, order.port, order.socket_mode) == ("/run/order.sock", 0, 0o660)
    assert "on unix:/run/order.sock" in repr(order)
    assert read().services["order"].socket is None


@pytest.mark.parametrize("mode", ['"0640"', '"640"', "0o640", '"0o640"'])
def test_the_mode_of_a_socket(mode: str) -> None:
    """Permissions are written as chmod takes them, or as a TOML number in base eight; in a variable likewise."""
    assert read(f"socket_mode = {mode}").services["order"].socket_mode == 0o640
    assert read(ORDER__SOCKET_MODE=mode.strip('"')).services["order"].socket_mode == 0o640


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("tls = 1", "mizzen.toml:4  services.order.tls: expected a table, got 1"),
        ("tls = {}", "mizzen.toml:4  services.order.tls.cert: missing; expected a text"),
        ('tls = { cert = "a", verify = false }', "services.order.tls.verify is not a setting"),
        ("clients.user.tls = { insecure = true }", "services.order.clients.user.tls.insecure is not a setting"),
        (
            'clients.user.tls.key = "a"',
            "mizzen.toml:4  services.order.clients.user.tls.key: is of no use without a certificate",
        ),
        (
            'clients.user = { url = "http://x", tls = { ca = "a" } }',
            "services.order.clients.user.url: is http://, so tls means nothing; use https://, or leave tls out",
        ),
        ('host = "/run/x.sock"', 'services.order.host: is a path; a Unix socket is written "unix:/run/x.sock"'),
        ('host = "unix:x.sock"', "services.order.host: expected the whole path of a Unix socket"),
        ('host = "unix:/x.sock"', "mizzen.toml:3  services.order.port: means nothing on a Unix socket"),
        ('host = "unix:/x"\ntls.cert = "a"', "services.order.tls: means nothing on a Unix socket"),
        ('socket_mode = "rw"', "services.order.socket_mode: expected permissions such as \"0660\", got 'rw'"),
        ("socket_mode = 9999", 'expected permissions such as "0660", got 9999'),
        ("socket_mode = true", 'expected permissions such as "0660", got true'),
    ],
)
def test_what_is_refused(more: str, said: str) -> None:
    """Each of these is an error that names its place and the fix."""
    with pytest.raises(ConfigError) as raised:
        read(more)
    assert said in str(raised.value)


def test_a_port_is_still_needed() -> None:
    """Leaving it out is an error unless a Unix socket stands in its place, by file or by variable."""
    text: Any = '[services.order]\nbuild = "a:b"\n'
    with pytest.raises(ConfigError, match=r"services\.order\.port: missing; expected a port"):
        read(text=text)
    assert read(text=text, ORDER__HOST="unix:/run/o.sock").services["order"].socket == "/run/o.sock"
