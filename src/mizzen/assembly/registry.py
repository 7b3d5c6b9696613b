"""The embedded registry as a server of its own: ``mizzen registry``, and inside ``mizzen dev``."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mizzen.edges.http import Limits, Pool, PoolLimits, Server
from mizzen.edges.registry import UNVERIFIED, Registry
from mizzen.words.errors import StartError
from mizzen.words.message import Request, Response

from .answering import refusal
from .identity import is_loopback
from .network import Listener, Network, SocketNetwork
from .tls import unverified_tls, usual_tls

if TYPE_CHECKING:
    from mizzen.edges.http import Tls

PROBE_TIMEOUT = 2.0
"""Seconds for the answer to an HTTP check; Consul's default is 10, which is too long to be useful on loopback."""


class RegistryServer:
    """A running embedded registry."""

    def __init__(self, registry: Registry, server: Server, listener: Listener, work: asyncio.Task[None]) -> None:
        self.registry = registry
        self.port = listener.port
        self._server = server
        self._listener = listener
        self.work = work
        """Its checks and their expiry; ends only by a defect."""

    async def close(self) -> None:
        """Stop answering and forget everything."""
        self._listener.close()
        self.registry.close()  # queries that wait for a change are answered now
        self.work.cancel()
        await asyncio.wait({self.work})
        await self._server.drain(0)


async def open_registry(host: str, port: int, *, token: str | None = None, network: Network | None = None) -> RegistryServer:
    """Start an embedded registry; ``StartError`` for an address that is not loopback without a token, or a taken port."""
    if not is_loopback(host) and not token:
        raise StartError(
            f"the embedded registry would listen on {host} without a token: anyone could register there",
            fix="keep 127.0.0.1, or give --token-file",
        )
    network = network or SocketNetwork()
    loop = asyncio.get_running_loop()

    async def probe(request: Request) -> Response:
        at = urlsplit(request.peer)
        tls: Tls | None = None
        if at.scheme == UNVERIFIED:
            tls = unverified_tls()
        elif at.scheme == "https":
            tls = usual_tls({"ca": "SSL_CERT_FILE"})
        host, number = at.hostname or "", at.port or (443 if tls else 80)
        pool = Pool(host, number, tls=tls, connect=network.connect, limits=PoolLimits(), clock=loop.time, peer=request.peer)
        try:
            async with asyncio.timeout(PROBE_TIMEOUT if request.call is None else request.call.timeout):
                return await pool.send(request)
        finally:
            pool.close()

    async def connect(host: str, port: int) -> None:
        transport, _ = await network.connect(asyncio.Protocol, host, port, None)
        transport.close()

    registry = Registry(
        clock=loop.time,
        wall=time.time,
        sleep=asyncio.sleep,
        probe=probe,
        connect=connect,
        token=token,
        random=random.random,
    )
    server = Server(
        registry.handler,
        limits=Limits(),
        clock=loop.time,
        refuse=lambda status, detail, request: refusal(status, detail, ""),
        sent=lambda request, response, sent: None,
    )
    listener = await network.listen(host, port, server.protocol)
    return RegistryServer(registry, server, listener, loop.create_task(registry.run(), name="registry"))


async def serve_registry(
    host: str, port: int, *, token: str | None = None, ready: Callable[[int], None] = lambda port: None
) -> None:
    """Serve an embedded registry until cancelled; ``ready`` is told its port. What ends its checks is raised."""
    running = await open_registry(host, port, token=token)
    ready(running.port)
    try:
        await asyncio.shield(running.work)
    finally:
        await running.close()
