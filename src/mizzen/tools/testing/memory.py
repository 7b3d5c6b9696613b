"""A network in memory: the protocols of server and client run on it unchanged, with faults on demand."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mizzen.edges.http import Tls

Factory = Callable[[], asyncio.Protocol]

HIGH_WATER = 64 * 1024
"""Bytes unsent at which a writer is paused; asyncio's own default."""
PIECE = 64 * 1024
"""The most bytes that one read delivers."""
FIRST_PORT = 40_000
"""Where ports that nobody chose begin."""
EVERY_HOST = ("0.0.0.0", "::", "")


class Faults:
    """What is wrong with the way to one address; it applies to open connections as well."""

    __slots__ = ("cut", "delay", "hang", "refuse")

    def __init__(self) -> None:
        self.refuse = False
        """Connecting fails at once."""
        self.hang = False
        """Nothing arrives, in either direction; connecting never ends."""
        self.delay = 0.0
        """Seconds by which connecting and every piece is late, each way."""
        self.cut: int | None = None
        """Bytes of answer per connection after which it is reset; None for no such fault."""

    def __bool__(self) -> bool:
        return self.refuse or self.hang or self.delay > 0 or self.cut is not None

    def __repr__(self) -> str:
        active = [f"{name}={value}" for name in self.__slots__ if (value := getattr(self, name)) not in (False, 0.0, None)]
        return f"<Faults {' '.join(active) or 'none'}>"


class MemoryTransport(asyncio.Transport):
    """One end of a connection; behaves as asyncio's socket transport does, the kernel's buffers left out."""

    def __init__(self, protocol: asyncio.Protocol, *, faults: Faults, serving: bool, extra: dict[str, Any]) -> None:
        super().__init__(extra)
        self._loop = asyncio.get_running_loop()
        self._protocol: asyncio.BaseProtocol = protocol
        self._faults = faults
        self._serving = serving  # whether this end is the server's: its bytes are the answer
        self._peer: MemoryTransport
        self._buffer = bytearray()
        self._delivered = 0
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._writing_paused = False
        self._reading_paused = False
        self._eof = False  # no more is written
        self._eof_delivered = False
        self._closing = False
        self._lost = False
        self._pump_handle: asyncio.Handle | None = None

    # -- what a protocol uses --------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._closing or not data:
            return
        self._buffer += data
        self._schedule()
        if len(self._buffer) > self._high and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        if not self._eof and not self._closing:
            self._eof = True
            self._schedule()

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = HIGH_WATER if high is None else high
        self._low = self._high // 4 if low is None else low

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            self._peer.wake()

    def is_reading(self) -> bool:
        return not self._reading_paused and not self._closing

    def is_closing(self) -> bool:
        return self._closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def close(self) -> None:
        """Send what is written, then end."""
        if not self._closing:
            self._closing = True
            if self._buffer:
                self._schedule()
            else:
                self._loop.call_soon(self._end, None)

    def abort(self) -> None:
        """End at once; what is unsent is lost."""
        self._lose(None)

    def __repr__(self) -> str:
        state = "lost" if self._lost else "closing" if self._closing else "open"
        return f"<MemoryTransport {state}, {len(self._buffer)} bytes unsent>"

    # -- the wire --------------------------------------------------------------------------------------------------

    def _schedule(self, *, follows: bool = False) -> None:
        """Deliver soon; what follows a piece is on its way already and not late again."""
        if self._pump_handle is None and not self._lost:
            delay = 0.0 if follows else self._faults.delay
            self._pump_handle = self._loop.call_later(delay, self._pump) if delay else self._loop.call_soon(self._pump)

    def wake(self) -> None:
        """Look again whether anything can be delivered: a fault was lifted, or the peer reads again."""
        if self._lost:
            self._loop.call_soon(self._tell_peer)
        elif self._buffer or self._eof or self._closing:
            self._schedule()

    def _pump(self) -> None:
        """Deliver one piece, as one read of the peer's socket would."""
        self._pump_handle = None
        peer = self._peer
        if self._lost or self._faults.hang:
            return
        if peer._lost or peer._closing:
            if self._buffer:  # the peer's kernel answers with a reset
                self._lose(ConnectionResetError("connection reset by peer"))
            elif self._closing:
                self._end(None)
            return
        if peer._reading_paused:
            return
        if self._buffer:
            self._deliver(peer)
        elif self._eof:
            self._deliver_eof(peer)
        if self._buffer or (self._eof and not self._eof_delivered):
            self._schedule(follows=True)
        elif self._closing:
            self._end(None)

    def _deliver(self, peer: MemoryTransport) -> None:
        size = min(PIECE, len(self._buffer))
        cut = self._faults.cut if self._serving else None
        if cut is not None:
            size = min(size, max(0, cut - self._delivered))
        piece = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._delivered += size
        if piece:
            assert isinstance(peer._protocol, asyncio.Protocol)
            peer._protocol.data_received(piece)
        if cut is not None and self._delivered >= cut:
            self._lose(ConnectionResetError("connection reset by peer"))
            peer._lose(ConnectionResetError("connection reset by peer"))
            return
        if self._writing_paused and len(self._buffer) <= self._low and not self._lost:
            self._writing_paused = False
            self._protocol.resume_writing()

    def _deliver_eof(self, peer: MemoryTransport) -> None:
        if not self._eof_delivered:
            self._eof_delivered = True
            assert isinstance(peer._protocol, asyncio.Protocol)
            if not peer._protocol.eof_received():
                peer.close()

    def _end(self, error: Exception | None) -> None:
        """This side is closed: tell its protocol, and the peer by an end of file after what is on its way."""
        if self._lost:
            return
        self._closing = self._lost = True
        self._buffer.clear()
        if self._pump_handle is not None:
            self._pump_handle.cancel()
        self._protocol.connection_lost(error)
        peer = self._peer
        if not peer._lost:
            self._loop.call_later(self._faults.delay, self._tell_peer)

    def _tell_peer(self) -> None:
        peer = self._peer
        if self._faults.hang or peer._lost:
            return
        if peer._buffer:
            peer._lose(ConnectionResetError("connection reset by peer"))
        elif not peer._reading_paused and not peer._closing:
            self._deliver_eof(peer)

    def _lose(self, error: Exception | None) -> None:
        if not self._lost:
            self._closing = True
            self._buffer.clear()
            self._loop.call_soon(self._end, error)


class MemoryListener:
    """A bound address; closing it refuses new connections and leaves open ones alone."""

    def __init__(self, network: MemoryNetwork, host: str, port: int, factory: Factory) -> None:
        self.host = host
        self.port = port
        self.factory = factory
        self._network = network

    def close(self) -> None:
        """Stop accepting."""
        self._network.unbind(self)

    async def drain(self) -> None:
        """The same: in here nobody waits to be accepted."""
        self.close()

    def __repr__(self) -> str:
        return f"<MemoryListener {self.host}:{self.port}>"


class MemoryNetwork:
    """Connects and listens in memory. ``connect`` is a connector; faults are set per address as a caller writes it."""

    def __init__(self) -> None:
        self._listeners: dict[tuple[str, int], MemoryListener] = {}
        self._faults: dict[tuple[str, int], Faults] = {}
        self._transports: set[MemoryTransport] = set()
        self._changed: asyncio.Event | None = None
        self._next_port = FIRST_PORT

    async def listen(self, host: str, port: int, factory: Factory) -> MemoryListener:
        """Accept connections at an address, at a free port for 0; ``OSError`` when it is taken."""
        listener = MemoryListener(self, host, port or self._free_port(), factory)
        if (host, listener.port) in self._listeners:
            raise OSError(errno.EADDRINUSE, f"address already in use: {host}:{port}")
        self._listeners[host, listener.port] = listener
        return listener

    async def connect(
        self, factory: Factory, host: str, port: int, tls: Tls | None = None
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Open a connection; ``ConnectionRefusedError`` where nobody listens. There is no TLS in here: ``tls`` is ignored."""
        faults = self.faults(host, port)
        if faults.delay:
            await asyncio.sleep(faults.delay)
        while faults.hang:
            if self._changed is None:
                self._changed = asyncio.Event()
            await self._changed.wait()
        await asyncio.sleep(0)
        listener = self._find(host, port)
        if faults.refuse or listener is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"connection refused by {host}:{port}")
        here, there = ("127.0.0.1", self._free_port()), (host, port)
        near = MemoryTransport(factory(), faults=faults, serving=False, extra={"sockname": here, "peername": there})
        far = MemoryTransport(listener.factory(), faults=faults, serving=True, extra={"sockname": there, "peername": here})
        near._peer, far._peer = far, near
        live = {transport for transport in self._transports if not (transport._lost and transport._peer._lost)}
        self._transports = live | {near, far}
        far.get_protocol().connection_made(far)
        protocol = near.get_protocol()
        protocol.connection_made(near)
        assert isinstance(protocol, asyncio.Protocol)
        return near, protocol

    def unbind(self, listener: MemoryListener) -> None:
        """Forget a listener; what its ``close`` does."""
        if self._listeners.get((listener.host, listener.port)) is listener:
            del self._listeners[listener.host, listener.port]

    def _find(self, host: str, port: int) -> MemoryListener | None:
        for name in (host, *EVERY_HOST):
            if (listener := self._listeners.get((name, port))) is not None:
                return listener
        return None

    def _free_port(self) -> int:
        self._next_port += 1
        return self._next_port

    # -- faults ----------------------------------------------------------------------------------------------------

    def faults(self, host: str, port: int) -> Faults:
        """What is wrong with the way to that address just now."""
        return self._faults.setdefault((host, port), Faults())

    def refuse(self, host: str, port: int) -> None:
        """New connections are refused; open ones live on."""
        self.faults(host, port).refuse = True

    def hang(self, host: str, port: int) -> None:
        """Nothing gets through any more, and nobody is told."""
        self.faults(host, port).hang = True

    def cut(self, host: str, port: int, after: int) -> None:
        """Reset each connection once it has delivered so many bytes of answer."""
        self.faults(host, port).cut = after

    def delay(self, host: str, port: int, seconds: float) -> None:
        """Connecting, and every piece in either direction, takes so many seconds longer."""
        self.faults(host, port).delay = seconds

    def heal(self, host: str, port: int) -> None:
        """Lift every fault of that address; what hung arrives now."""
        faults = self.faults(host, port)
        faults.refuse = faults.hang = False
        faults.delay = 0.0
        faults.cut = None
        if self._changed is not None:
            self._changed.set()
            self._changed = None
        for transport in self._transports:
            transport.wake()

    def describe(self) -> dict[str, Any]:
        """The network's state as plain values."""
        return {
            "listening": sorted(f"{host}:{port}" for host, port in self._listeners),
            "connections": sum(not transport._lost for transport in self._transports) // 2,
            "faults": {f"{host}:{port}": repr(faults) for (host, port), faults in self._faults.items() if faults},
        }

    def __repr__(self) -> str:
        state = self.describe()
        return f"<MemoryNetwork {len(state['listening'])} listening, {state['connections']} connections>"
