"""``etcd://[user[:password]@]h1:2379,h2:2379[/prefix]?tls=true``: the members of an etcd cluster, and its URL's options."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from mizzen.assembly.identity import is_loopback
from mizzen.edges.resolvers import EtcdRegistrar, EtcdResolver
from mizzen.edges.resolvers.etcd.gateway import Gateway, Member
from mizzen.edges.resolvers.etcd.login import Login
from mizzen.edges.resolvers.etcd.resolver import PREFIX
from mizzen.rules.config import hide_password
from mizzen.words.errors import StartError

from .backend import Backend, Means, options_of, switch

if TYPE_CHECKING:
    from mizzen.edges.http import Tls

PORT = 2379
"""etcd's for clients, by IANA."""
OPTIONS = ("tls", "ca", "cert", "key")
FORM = "such as etcd://10.0.3.2:2379,10.0.3.3:2379/mizzen"


def etcd(url: str, means: Means) -> Backend:
    """The cluster that ``url`` names; ``StartError`` when it names none."""
    try:
        parts = urlsplit(url)
        login, _, hosts = parts.netloc.rpartition("@")
        members = [_member(each) for each in hosts.split(",")] if hosts else [("127.0.0.1", PORT)]
    except ValueError as error:
        raise StartError(f"{hide_password(url)!r} is not the address of an etcd cluster: {error}", fix=FORM) from None
    names = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in members]
    shown = f"etcd://{','.join(names)}"
    options = options_of(parts.query, shown, OPTIONS)
    tls = _tls(options, shown)
    path = unquote(parts.path).strip("/")
    prefix = f"/{path}" if path else PREFIX
    user, _, password = (unquote(each) for each in login.partition(":"))
    known = Login(user, _password(password, means, shown)) if user else None
    gateways, pools = [], []
    for _ in range(2):  # heartbeats have pools of their own, so that they never wait behind watches
        ways = []
        for (host, port), name in zip(members, names, strict=True):
            call, pool = means.connection(host, port, f"etcd://{name}", tls)
            ways.append(Member(name, call))
            pools.append(pool)
        gateways.append(Gateway(ways, login=known, random=means.random, clock=means.clock))
    resolver = EtcdResolver(gateways[0], prefix=prefix, sleep=means.sleep, random=means.random, clock=means.clock)
    registrar = EtcdRegistrar(gateways[1], prefix=prefix, clock=means.clock)

    def close() -> None:
        for pool in pools:
            pool.close()

    # who is announced there is seen from wherever one of the members is
    address = next((each for each in members if not is_loopback(each[0])), members[0])
    return Backend(shown, resolver, registrar, address, close)


def _member(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError(f"it has a member without a host, {text!r}")
    return parts.hostname, parts.port or PORT


def _password(written: str, means: Means, shown: str) -> Callable[[], str | None]:
    """The password of the moment: the URL's, else the configured one."""
    if written:
        return lambda: written
    if not (means.config.token_file or means.config.token):
        raise StartError(
            f"{shown} has a user and no password", fix="set discovery.token_file or discovery.token, or write user:password@"
        )
    return means.secret({})


def _tls(options: dict[str, str], shown: str) -> Tls | None:
    files = [part for part in ("ca", "cert", "key") if part in options]
    if not switch(options, "tls", shown, default=bool(files)):
        if files:
            raise StartError(f"{shown} has {', '.join(files)} and tls=false", fix="leave out one or the other")
        return None
    from mizzen.edges.http import Certificates, TlsFiles

    ca, cert, key = (options.get(part) for part in ("ca", "cert", "key"))
    settings = {part: f"{shown}?{part}" for part in ("ca", "cert", "key")}
    return Certificates(TlsFiles(ca=ca, cert=cert, key=key, settings=settings), server=False)
