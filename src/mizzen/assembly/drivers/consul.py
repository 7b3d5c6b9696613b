"""``consul://host:8500?dc=…&tag=…&tls=true&catalog=true``: a Consul agent or server, and the options its URL takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from mizzen.assembly.tls import usual_tls
from mizzen.edges.resolvers import ConsulRegistrar, ConsulResolver
from mizzen.rules.config import hide_password
from mizzen.rules.discovery import Registrar
from mizzen.words.errors import StartError
from mizzen.words.handler import Handler

from .backend import Backend, Means, options_of, switch

OPTIONS = ("dc", "tag", "tls", "token", "token_file", "catalog")


def consul(url: str, means: Means) -> Backend:
    """The agent that ``url`` names; ``StartError`` when it names none."""
    try:
        parts = urlsplit(url)
        if "@" in parts.netloc:  # meant as a token, no doubt, and the agent would never be shown it
            url = f"consul://***@{parts.netloc.rpartition('@')[2]}"
            raise ValueError("it has a user; a token is ?token=… or discovery.token_file")
        host, port = parts.hostname or "127.0.0.1", parts.port or 8500
        if parts.path.strip("/"):
            raise ValueError(f"it has a path, {parts.path}")
    except ValueError as error:
        what = f"{hide_password(url)!r} is not the address of a Consul agent: {error}"
        raise StartError(what, fix="such as consul://10.0.3.2:8500") from None
    shown = f"consul://[{host}]:{port}" if ":" in host else f"consul://{host}:{port}"
    options = options_of(parts.query, shown, OPTIONS)
    shown += f"?dc={options['dc']}" if "dc" in options else ""  # another datacenter behind the same agent is another registry
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

    def close() -> None:
        watches[1].close()
        beats[1].close()

    return Backend(shown, resolver, _registrar(beats[0], token, options, shown, means), (host, port), close)


def _registrar(
    call: Handler, token: Callable[[], str | None], options: Mapping[str, str], shown: str, means: Means
) -> Registrar:
    config, port = means.config, means.health_port
    if not switch(options, "catalog", shown):
        return ConsulRegistrar(call, token=token, http_check=config.http_check, health_port=port, clock=means.clock)
    from mizzen.edges.resolvers import ConsulCatalogRegistrar

    return ConsulCatalogRegistrar(
        call, token=token, dc=options.get("dc"), http_check=config.http_check, health_port=port, clock=means.clock
    )
