"""``consul://host:8500?dc=…&tag=…&tls=true``: a Consul agent, and the options that its URL takes."""

from __future__ import annotations

from urllib.parse import urlsplit

from mizzen.assembly.tls import usual_tls
from mizzen.edges.resolvers import ConsulRegistrar, ConsulResolver
from mizzen.rules.config import hide_password
from mizzen.words.errors import StartError

from .backend import Backend, Means, options_of, switch

OPTIONS = ("dc", "tag", "tls", "token")


def consul(url: str, means: Means) -> Backend:
    """The agent that ``url`` names; ``StartError`` when it names none."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "127.0.0.1", parts.port or 8500
        if parts.path.strip("/"):
            raise ValueError(f"it has a path, {parts.path}")
    except ValueError as error:
        what = f"{hide_password(url)!r} is not the address of a Consul agent: {error}"
        raise StartError(what, fix="such as consul://10.0.3.2:8500") from None
    shown = f"consul://{host}:{port}"
    options = options_of(parts.query, shown, OPTIONS)
    tls = usual_tls({"ca": "SSL_CERT_FILE"}) if switch(options, "tls", shown) else None
    # Heartbeats have a pool of their own, so that they never wait behind watches.
    watches, beats = (means.connection(host, port, shown, tls) for _ in range(2))
    token = means.secret(options)
    resolver = ConsulResolver(
        watches[0],
        token=token,
        sleep=means.sleep,
        random=means.random,
        dc=options.get("dc"),
        tag=options.get("tag"),
        clock=means.clock,
    )
    registrar = ConsulRegistrar(
        beats[0],
        token=token,
        http_check=means.config.http_check,
        health_port=means.health_port,
        clock=means.clock,
    )

    def close() -> None:
        watches[1].close()
        beats[1].close()

    return Backend(shown, resolver, registrar, (host, port), close)
