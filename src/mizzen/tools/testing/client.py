"""A service in a test's memory: the real stacks and the real protocol, without a socket, a registry or a signal."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypedDict, Unpack

import msgspec

from mizzen.assembly.observing import Telemetry
from mizzen.assembly.peers import Peer
from mizzen.assembly.probes import State
from mizzen.assembly.running import Running
from mizzen.assembly.service import Service
from mizzen.assembly.target import encode_query
from mizzen.edges.http import Pool, PoolLimits
from mizzen.edges.resolvers import StaticResolver
from mizzen.rules.config import ClientConfig, ServiceConfig
from mizzen.words.clock import format_duration
from mizzen.words.errors import StartError
from mizzen.words.json import write
from mizzen.words.message import Headers, Request, Response

from .memory import MemoryNetwork

PORT = 80
"""The port every service has in memory, where each has a host of its own."""


START_LIMIT = 30.0
"""Seconds until a start that waits for what is not there fails: a service waits for ever, a test has to end."""


FINISH = 20.0
"""Seconds for what mounted apps do behind their answers, as a service that drains gives them."""


class RequestOptions(TypedDict, total=False):
    """What a request may say besides its method and path; see :meth:`TestClient.request`."""

    json: Any
    body: bytes
    headers: Mapping[str, str]
    query: Mapping[str, Any]


class TestClient:
    """Sends requests to a service in memory."""

    __test__ = False  # its name starts with Test, but it is not one

    def __init__(self, pool: Pool, running: Running, network: MemoryNetwork) -> None:
        self.running = running
        self.network = network
        """Where faults can be injected between the service and its peers."""
        self._pool = pool

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = msgspec.UNSET,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> Response:
        """Send one request and read its whole answer; ``json`` is encoded, ``body`` is sent as it is."""
        fields = Headers(headers or {})
        if json is not msgspec.UNSET:
            body = write(json)
            if "content-type" not in fields:
                fields.add("content-type", "application/json")
        path, _, inline = path.partition("?")
        encoded = "&".join(part for part in (inline, encode_query(query)) if part)
        response = await self._pool.send(Request(method, path, query=encoded, headers=fields, body=body))
        await response.read()
        return response

    async def get(self, path: str, **options: Unpack[RequestOptions]) -> Response:
        """GET; see :meth:`request`."""
        return await self.request("GET", path, **options)

    async def head(self, path: str, **options: Unpack[RequestOptions]) -> Response:
        """HEAD; see :meth:`request`."""
        return await self.request("HEAD", path, **options)

    async def post(self, path: str, **options: Unpack[RequestOptions]) -> Response:
        """POST; see :meth:`request`."""
        return await self.request("POST", path, **options)

    async def put(self, path: str, **options: Unpack[RequestOptions]) -> Response:
        """PUT; see :meth:`request`."""
        return await self.request("PUT", path, **options)

    async def patch(self, path: str, **options: Unpack[RequestOptions]) -> Response:
        """PATCH; see :meth:`request`."""
        return await self.request("PATCH", path, **options)

    async def delete(self, path: str, **options: Unpack[RequestOptions]) -> Response:
        """DELETE; see :meth:`request`."""
        return await self.request("DELETE", path, **options)


@asynccontextmanager
async def client(
    service: Service,
    overrides: Mapping[type, Any] | None = None,
    *,
    peers: Mapping[str, Service] | None = None,
    network: MemoryNetwork | None = None,
) -> AsyncIterator[TestClient]:
    """Run ``service`` in memory and give a client for it.

    ``overrides`` replace provided things by type, unopened and unchecked. ``peers`` run other services beside it, which
    may call each other; a call to a peer that is not there raises ``NoInstances``. ``StartError`` for what does not start.
    """
    network = network or MemoryNetwork()
    async with AsyncExitStack() as stack:
        for name, peer in (peers or {}).items():
            await stack.enter_async_context(_listening(peer, name, {}, peers or {}, network))
        running = await stack.enter_async_context(_listening(service, service.name, overrides or {}, peers or {}, network))
        pool = Pool(
            service.name,
            PORT,
            tls=None,
            connect=network.connect,
            limits=PoolLimits(),
            clock=asyncio.get_running_loop().time,
            peer=service.name,
        )
        stack.callback(pool.close)
        yield TestClient(pool, running, network)


@asynccontextmanager
async def _listening(
    service: Service, host: str, overrides: Mapping[type, Any], peers: Mapping[str, Service], network: MemoryNetwork
) -> AsyncIterator[Running]:
    clock = asyncio.get_running_loop().time
    telemetry = Telemetry(service.name, version="test")
    connected = {}
    for name, handle in service.clients.items():
        present = name in peers
        connected[name] = Peer(
            handle,
            ClientConfig(required=handle.required and present, **handle.settings()),
            StaticResolver({name: [f"http://{name}:{PORT}"] if present else []}),
            backend="this test",
            network=network,
            telemetry=telemetry,
            clock=clock,
            random=random.random,
        )
    running = Running(
        service,
        ServiceConfig(port=PORT),
        peers=connected,
        telemetry=telemetry,
        about={"service": service.name},
        clock=clock,
        overrides=overrides,
    )
    server = running.server()
    listener = await network.listen(host, PORT, server.protocol)
    try:
        await _started(running)
        running.enter(State.SERVING)
        yield running
    finally:
        listener.close()
        await server.drain(0)
        await running.finish(FINISH)
        await running.close()


async def _started(running: Running) -> None:
    try:
        async with asyncio.timeout(START_LIMIT):
            await running.start()
    except TimeoutError:
        waits = ", ".join(running.waiting()) or "nothing"
        raise StartError(
            f"{running.service.name} did not start within {format_duration(START_LIMIT)}: it waits for {waits}",
            fix="start what it needs, or override it: testing.client(service, {SomeType: fake})",
        ) from None
