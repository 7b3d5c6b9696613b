"""The embedded registry as a server of its own: ``mizzen registry``, and inside ``mizzen dev``."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from functools import cache
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


PROBE_BODY = 8192
"""Bytes of the answer to an HTTP check that are read: the status decides, and a check shows 4,096 characters."""


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

    @cache  # reading what the system trusts takes some 50 ms
    def tls_of(scheme: str) -> Tls | None:
        if scheme == UNVERIFIED:
            return unverified_tls()
        return usual_tls({"ca": "SSL_CERT_FILE"}) if scheme == "https" else None

    async def probe(request: Request) -> Response:
        at = urlsplit(request.peer)
        tls = tls_of(at.scheme)
        host, number = at.hostname or "", at.port or (443 if tls else 80)
        pool = Pool(host, number, tls=tls, connect=network.connect, limits=PoolLimits(), clock=loop.time, peer=request.peer)
        try:
            async with asyncio.timeout(PROBE_TIMEOUT if request.call is None else request.call.timeout):
                request.stream = True
                return await _beginning(await pool.send(request))
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
    try:
        ready(running.port)
        await asyncio.shield(running.work)
    finally:
        await running.close()


async def _beginning(response: Response) -> Response:
    """The answer with no more of its body than a check shows, however much of it there is."""
    if isinstance(response.body, bytes):
        return response
    begun = bytearray()
    try:
        async for piece in response.body:
            begun += piece
            if len(begun) >= PROBE_BODY:
                break
    finally:
        await response.close()
    response.body = bytes(begun)
    return response
