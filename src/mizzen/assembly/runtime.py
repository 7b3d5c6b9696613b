"""Runtime: one service from bind to exit, through the states of its life, in an order that cannot lose requests.

starting -> serving -> lingering -> draining -> closed. The socket is bound first, so that probes always get an
answer, and it is closed only after the registry and every caller had time to notice.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from mizzen.edges.http import Server
from mizzen.rules.events import Hook, StateChanged, StepTaken
from mizzen.words.clock import Clock, monotonic
from mizzen.words.errors import StartError

from .load import placed
from .network import Listener, Network
from .probes import State
from .running import Running
from .unix import shown_address

if TYPE_CHECKING:
    from .announce import Announcer

SLOW_START = 10.0
"""Seconds after which a start that still waits says again what it waits for."""

log = logging.getLogger("mizzen.runtime")


class Runtime:
    """Runs one service: owns its state, its signals and the order of its steps."""

    def __init__(
        self,
        running: Running,
        *,
        network: Network,
        host: str,
        port: int,
        admin_port: int | None = None,
        linger: float,
        drain: float,
        emit: Hook,
        announcer: Callable[[int], Announcer | None],
        clock: Clock = monotonic,
        bound: str | None = None,
    ) -> None:
        """``bound`` is what to say of the socket where it is not ours."""
        self.running = running
        self.port = port
        self._bound = bound
        self._network = network
        self._host = host
        self._admin_port = admin_port
        self._linger = linger
        self._drain = drain
        self._emit = emit
        self._make_announcer = announcer
        self._clock = clock
        self._entered = clock()
        self._stop = asyncio.Event()
        self._force = asyncio.Event()
        self._announcer: Announcer | None = None
        self._listener: Listener | None = None
        self._admin_listener: Listener | None = None
        running.on_verdict = self._verdict_changed
        self.server: Server = running.server()
        self._admin: Server | None = None

    async def run(self, *, signals: bool = True, started: Callable[[], None] = lambda: None) -> int:
        """Live from bind to exit; 0, or 1 when anything was cut off or could not start."""
        restore = self._take_signals() if signals else _nothing
        try:
            await self._bind()
            self._enter(State.STARTING, self._bound or f"bound {shown_address(self._host, self.port)}")
            if await self._until_stop(self.running.start()):
                started()
                await self._serve()
                return await self._shut_down()
            return await self._close(0)
        except BaseException:
            await self._close(1)
            raise
        finally:
            restore()

    @property
    def state(self) -> State:
        """Where the service is in its life."""
        return self.running.state

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stop.is_set()

    def stop(self, why: str = "stop", *, linger: bool = True) -> None:
        """Ask for a graceful stop, without lingering where nobody new may come; asked again, leave out what is left of it."""
        if not linger:
            self._linger = 0.0
        if self._stop.is_set():
            log.warning("%s again: forced", why)
            self._force.set()
        else:
            self._stop.set()
            log.info("%s: stopping", why)

    async def _bind(self) -> None:
        self._listener = await self._network.listen(self._host, self.port, self.server.protocol)
        self.port = self._listener.port
        if self._admin_port is not None:
            self._admin = self.running.admin_server()
            self._admin_listener = await self._network.listen(self._host, self._admin_port, self._admin.protocol)

    # -- steps -------------------------------------------------------------------------------------------------

    async def _until_stop(self, work: Awaitable[None]) -> bool:
        """Do the work of starting unless a stop comes first, which cancels it."""
        task = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            while not task.done() and not self._stop.is_set():
                await asyncio.wait({task, stop}, timeout=SLOW_START, return_when=asyncio.FIRST_COMPLETED)
                if not task.done() and not self._stop.is_set():
                    log.warning("still starting: waiting for %s", ", ".join(self.running.waiting()) or "nothing")
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        finally:
            stop.cancel()
            if not task.done():
                task.cancel()
        if task.cancelled():
            return False
        error = task.exception()
        if error is not None:
            raise self._blamed(error)
        return not self._stop.is_set()

    def _blamed(self, error: BaseException) -> BaseException:
        """What the user's code raised while it was opened, as the error that says so."""
        if not isinstance(error, Exception) or isinstance(error, StartError):
            return error
        what = f"opening {', '.join(self.running.waiting()) or 'it'}"
        log.critical("%s failed", what, exc_info=error)  # whole: the error that ends the process has its last frames only
        return placed(error, f"{self.running.service.name} cannot start: {what}")

    async def _serve(self) -> None:
        self._enter(State.SERVING, "every required check passed")
        self._announcer = self._make_announcer(self.port)
        if self._announcer is not None:
            self._announcer.start()
        await self._stop.wait()

    async def _shut_down(self) -> int:
        if self._announcer is not None:
            started = self._clock()
            await self._announcer.withdraw()
            from .announce import WITHDRAW_LIMIT

            self._emit(StepTaken("withdraw", self._clock() - started, WITHDRAW_LIMIT))
        self._enter(State.LINGERING, "withdrawn" if self._announcer else "nothing to withdraw")
        self.server.linger()
        await self._forced_or(self._linger)
        self._enter(State.DRAINING, f"{self.server.in_flight} requests in flight", refuse=False)
        drain = asyncio.ensure_future(self._drained(self._drain))
        force = asyncio.ensure_future(self._force.wait())
        await asyncio.wait({drain, force}, return_when=asyncio.FIRST_COMPLETED)
        force.cancel()
        if not drain.done():
            drain.cancel()
            await asyncio.wait({drain})
            cut = await self._drained(0)
        else:
            cut = drain.result()
        if cut:
            log.error("%d requests were cut off at the end of the drain", cut)
        return await self._close(1 if cut else 0)

    async def _drained(self, seconds: float) -> int:
        """Let requests finish, and what mounted apps do behind their answers; how many were cut off after ``seconds``."""
        ends = self._clock() + seconds
        await self._hear_out(seconds)
        self.running.enter(State.DRAINING)
        cut = await self.server.drain(max(0.0, ends - self._clock()))
        return cut + await self.running.finish(max(0.0, ends - self._clock()))

    async def _hear_out(self, within: float) -> None:
        """Accept nobody any more, and answer those who have been accepted and have had no answer."""
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.drain()
        began = self._clock()
        if await self.server.hear_out(within):
            self._emit(StepTaken("last requests", self._clock() - began))

    async def _close(self, code: int) -> int:
        """Close what is open, in reverse; the socket last in a start that was cancelled."""
        if self._announcer is not None and self.state is State.SERVING:
            await self._announcer.withdraw()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self.server.connections:
            await self.server.drain(0)
        failed = await self.running.close()
        if self._admin is not None and self._admin_listener is not None:
            self._admin_listener.close()  # last: probes are answered until there is nothing left to ask about
            await self._admin.drain(0)
        if self.state is not State.CLOSED:
            self._enter(State.CLOSED, f"{', '.join(failed)} did not close" if failed else "everything is closed")
        return 1 if failed else code

    async def _forced_or(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._force.wait()
        except TimeoutError:
            return

    def _enter(self, state: State, why: str, *, refuse: bool = True) -> None:
        now = self._clock()
        seconds, self._entered = now - self._entered, now
        self.running.enter(state, refuse=refuse)
        self._emit(StateChanged(self.running.service.name, state.value, why, seconds))

    def _verdict_changed(self) -> None:
        if self._announcer is not None:
            self._announcer.verdict_changed()

    def _take_signals(self) -> Callable[[], None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, partial(self.stop, number.name))

        def restore() -> None:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

        return restore

    def describe(self) -> dict[str, Any]:
        """The state of everything, for people and tools."""
        return {"state": self.state.value, "port": self.port, **self.running.describe()}


def _nothing() -> None:
    """No signal handlers to restore."""
