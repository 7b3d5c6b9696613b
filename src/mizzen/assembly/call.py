"""One call from the outside through the whole client pipeline: what ``mizzen call`` does."""

from __future__ import annotations

import random
from collections.abc import Mapping

import msgspec

from mizzen.rules.config import ClientConfig, System
from mizzen.words.clock import monotonic
from mizzen.words.errors import CallError, NoInstances
from mizzen.words.message import Headers, Request
from mizzen.words.outcome import classify

from .client import IDEMPOTENT, Client
from .drivers import Backend, Drivers, discover
from .network import SocketNetwork
from .observing import Telemetry
from .peers import FIRST_SNAPSHOT, Peer
from .tls import own_tls

CALLER = "mizzen-call"
"""Who the call comes from, in the peer's metrics and logs."""


class OneAnswer(msgspec.Struct, frozen=True):
    """What one call came to; times in seconds."""

    status: int
    headers: Headers
    body: bytes
    notes: list[str]
    seconds: float
    timeout: float


async def call_once(
    system: System,
    name: str,
    method: str,
    path: str,
    *,
    environ: Mapping[str, str],
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout: float | None = None,
    explain: bool = False,
    url: str | None = None,
) -> OneAnswer:
    """Call ``name`` once; raises a :class:`CallError` whose notes, when explained, are in its ``__notes__``."""
    network = SocketNetwork()
    drivers = Drivers(
        system.discovery,
        url=discover(system.discovery, environ),
        network=network,
        clock=monotonic,
        random=random.random,
        environ=environ,
    )
    client = Client(name, required=False, timeout=timeout, retries=None, classify=classify)
    backend = _backend(system, drivers, name, url)
    peer = Peer(
        client,
        ClientConfig() if timeout is None else ClientConfig(timeout=timeout),
        backend.resolver,
        backend=backend.url,
        network=network,
        telemetry=Telemetry(CALLER, version=""),
        clock=monotonic,
        random=random.random,
        tls=own_tls(system, name) if url is None and backend.loopback and name in system.services else None,
    )
    peer.explain = explain
    peer.start()
    try:
        if not await peer.known():
            raise NoInstances(f"{backend.url} did not say within {FIRST_SNAPSHOT:.0f}s where {name} is", peer=name)
        return await _answer(peer, method, path, headers, body)
    finally:
        await peer.stop()
        drivers.close()


def _backend(system: System, drivers: Drivers, name: str, url: str | None) -> Backend:
    if url is not None:
        return drivers.at(name, url)
    backend = drivers.resolving()
    if backend.url != "none:":
        return backend
    # No registry to ask: the service is where mizzen.toml puts it, if it runs on this machine.
    config = system.service(name)
    if config.socket is not None:
        return drivers.at(name, f"http+unix://{config.socket}")
    return drivers.at(name, f"{'http' if config.tls is None else 'https'}://127.0.0.1:{config.port}")


async def _answer(peer: Peer, method: str, path: str, headers: Mapping[str, str] | None, body: bytes | None) -> OneAnswer:
    path, _, query = path.partition("?")
    request = Request(method, path, query=query, headers=Headers(headers or {}), body=body or b"", peer=peer.name)
    request.route = path
    call = peer.begin(method in IDEMPOTENT, peer.timeout, frozenset())
    request.call = call
    try:
        response = await peer.send(request)
    except CallError as error:
        for note in call.notes or ():
            error.add_note(note)
        raise
    seconds = monotonic() - call.started
    return OneAnswer(response.status, response.headers, await response.read(), call.notes or [], seconds, call.timeout)
