"""Backend: a registry that a URL names; Means: what every driver is made with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from mizzen.assembly.identity import is_loopback
from mizzen.assembly.network import Network
from mizzen.rules.config import DiscoveryConfig
from mizzen.words.clock import Clock, Random
from mizzen.words.errors import CallError, CallTimeout, StartError
from mizzen.words.handler import Handler
from mizzen.words.message import Request, Response

if TYPE_CHECKING:
    from mizzen.edges.http import Pool, Tls
    from mizzen.rules.discovery import Registrar, Resolver

BACKEND_TIMEOUT = 2.0
"""Seconds for a registry's answer where the driver does not say otherwise."""


class Backend(Struct, frozen=True):
    """A registry that a URL names."""

    url: str
    """Without its secrets: as logs and errors show it."""
    resolver: Resolver
    registrar: Registrar | None
    address: tuple[str, int] | None = None
    """Where it is; None for what is written down."""
    close: Callable[[], None] = lambda: None

    @property
    def loopback(self) -> bool:
        """Whether only this machine can read what is announced there."""
        return self.address is None or is_loopback(self.address[0])


class Means(Struct, frozen=True):
    """What every driver is made with: the configuration, the network, time and chance."""

    config: DiscoveryConfig
    network: Network
    clock: Clock
    random: Random
    sleep: Callable[[float], Awaitable[None]]
    environ: Mapping[str, str]
    zone: str = ""
    """Where this service runs, for registries that hint at instances nearby."""
    health_port: int | None = None
    """Where ``/health`` is when it is not on the service's own port."""

    def connection(self, host: str, port: int, shown: str, tls: Tls | None) -> tuple[Handler, Pool]:
        """A handler that calls ``host:port`` with a time limit, the call's own or ours, and the pool behind it.

        A request that streams its answer is limited until the head of it has come; what then follows has no limit.
        """
        from mizzen.edges.http import Pool, PoolLimits

        pool = Pool(host, port, tls=tls, connect=self.network.connect, limits=PoolLimits(), clock=self.clock, peer=shown)

        async def call(request: Request) -> Response:
            seconds = request.call.timeout if request.call is not None else BACKEND_TIMEOUT
            try:
                async with asyncio.timeout(seconds):
                    return await pool.send(request)
            except TimeoutError:
                raise CallTimeout(f"no answer from {shown} in {seconds:.1f}s", peer=shown, limit="call") from None

        return call, pool

    def secret(self, options: Mapping[str, str]) -> Callable[[], str | None]:
        """The token or password of the moment: the URL's own (``token``, ``token_file``), else the configuration's, of
        which the file comes first. It raises ``CallError`` for a file that has none: whoever asks without it would believe
        what registries answer to strangers."""
        file = options.get("token_file") or ("" if "token" in options else self.config.token_file)
        text = options.get("token") or (str(self.config.token) if self.config.token else None)

        def token() -> str | None:
            return _token_in(file) if file else text  # read anew each time: tokens are rotated

        return token


def _token_in(file: str) -> str:
    from pathlib import Path

    try:
        text = Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise CallError(f"cannot read the token file {file}: {why}") from None
    if not text:
        raise CallError(f"the token file {file} is empty: nothing is asked until there is a token in it")
    return text


def options_of(query: str, shown: str, known: Iterable[str]) -> dict[str, str]:
    """The options in the query of a registry's URL; ``StartError`` names one that is unknown, or says nothing."""
    from urllib.parse import parse_qs

    options = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
    if blank := [name for name in options if name in known and not options[name]]:
        raise StartError(f"{shown} has {', '.join(blank)} without a value", fix="give it one, or leave it out")
    if unknown := [name for name in options if name not in known]:
        raise StartError(f"{shown} has no option {', '.join(unknown)}", fix=f"it takes {', '.join(known)}")
    return options


def switch(options: Mapping[str, str], name: str, shown: str, default: bool = False) -> bool:
    """An option that is on or off; ``StartError`` for anything else: a token must not travel in clear by a slip."""
    said = options.get(name, str(default).lower())
    if said not in ("true", "false"):
        raise StartError(f"{shown} has {name}={said}", fix=f"it takes {name}=true or {name}=false")
    return said == "true"
