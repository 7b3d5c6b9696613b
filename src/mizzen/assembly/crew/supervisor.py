"""Supervisor: keeps the workers of one service alive, announces them as one instance and ends them in the right order."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from mizzen.assembly.announce import WITHDRAW_LIMIT, Announcer
from mizzen.assembly.children import describe_exit
from mizzen.assembly.probes import State
from mizzen.rules.events import Hook, StateChanged, StepTaken
from mizzen.rules.restart import Backoff
from mizzen.words.clock import Clock, format_duration
from mizzen.words.errors import StartError

from .door import Door
from .messages import Accept, Ask, Duty, Failed, Message, Numbers, Others, Page, Report, Stop
from .pages import Pages
from .process import SILENCE, WorkerProcess
from .sockets import Sockets
from .standing import SILENT, Standing, enough, shares, standing

RESTART_AFTER = 0.1
"""Seconds before a dead worker is first replaced: an accident costs hardly more than the start."""
LOOK_EVERY = 1.0
"""Seconds between looks for workers that hang, see ``SILENCE``; everything else is told at once."""
STOP_MARGIN = 10.0
"""Seconds beyond linger and drain that a worker has for closing what it opened, before it is killed."""
FORCE_LIMIT = 5.0
"""Seconds that a worker has for that when the stop is forced."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)

log = logging.getLogger("mizzen.crew")


class Supervisor:
    """One crew, from its first worker to its exit code."""

    def __init__(
        self,
        service: str,
        workers: Sequence[WorkerProcess],
        *,
        sockets: Sockets,
        pages: Pages,
        duty: Callable[[int, int], Duty],
        announcer: Callable[[Callable[[], tuple[str, str]]], Announcer | None],
        linger: float,
        drain: float,
        emit: Hook,
        restarted: Callable[[], None],
        clock: Clock,
    ) -> None:
        """``duty`` makes the first message of a worker's number and its lifeline; ``announcer`` is asked once they serve."""
        self.state = State.STARTING
        self.standing = Standing("unavailable", "critical", "", {})
        self.door: Door | None = None
        self._service = service
        self._workers = workers
        self._sockets = sockets
        self._pages = pages
        self._duty = duty
        self._make_announcer = announcer
        self._announcer: Announcer | None = None
        self._limit = linger + drain + STOP_MARGIN
        self._emit = emit
        self._restarted = restarted
        self._clock = clock
        self._entered = clock()
        self._told: tuple[State, Standing] | None = None
        self._stop = asyncio.Event()
        self._force = asyncio.Event()
        self._gave_up: asyncio.Future[StartError] = asyncio.get_running_loop().create_future()
        self._past_failed_calls = 0
        self._codes: list[int] = []
        self._sharing = len(sockets.service)
        self._silent: set[int] = set()
        self._answers: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Live until a signal or until no worker can start, which is a ``StartError``; the exit code."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, partial(self.stop, number.name))
        keepers: list[asyncio.Task[None]] = []
        watch = loop.create_task(self._watch(), name="watch")
        try:
            self._enter(State.STARTING, f"{len(self._workers)} workers at port {self._sockets.port}")
            keepers = [loop.create_task(self._keep(worker), name=f"worker-{worker.number}") for worker in self._workers]
            stop = asyncio.ensure_future(self._stop.wait())
            ends: list[asyncio.Future[Any]] = [stop, self._gave_up, *keepers]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            for keeper in keepers:
                if keeper.done() and (defect := keeper.exception()) is not None:
                    raise defect
            return await self._shut_down(keepers)
        finally:
            watch.cancel()
            for keeper in keepers:
                keeper.cancel()  # which kills its worker
            await asyncio.wait({watch, *keepers})
            if self.door is not None:
                await self.door.close()
            await self._pages.close()
            self._sockets.close()
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    def stop(self, why: str) -> None:
        """Ask for a graceful stop; asked again, leave out what is left of it."""
        if self._stop.is_set():
            log.warning("%s again: forced", why)
            self._force.set()
        else:
            self._stop.set()
            log.info("%s: stopping", why)

    def heard(self, worker: WorkerProcess, message: Any) -> None:
        """A worker has said something."""
        if isinstance(message, Numbers):
            self._pages.arrived(worker, message)
        elif isinstance(message, Ask):
            task = asyncio.get_running_loop().create_task(self._answer(worker, message), name="page")
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)
        elif isinstance(message, Report):
            if self._stop.is_set() and message.state == State.DRAINING.value:
                self._sockets.close_service()  # the workers' own copies go on until each of them drains
            self._look()

    # -- what the door's probes ask: see ``probes.Crew``

    def crew_state(self) -> State:
        """Of the crew as the door shows it, which is open only while nobody serves."""
        return State.STARTING if self.state is State.SERVING else self.state

    def waiting(self) -> list[str]:
        """What the crew waits for."""
        return [f"worker {number}: {text}" for number, text in self.standing.workers.items()]

    def failed_calls(self) -> int:
        """Calls to peers that failed, of every worker that ever lived."""
        return self._past_failed_calls + sum(worker.report.failed_calls for worker in self._workers if worker.report)

    def peers(self) -> dict[str, int]:
        """Known instances of each peer, by whichever worker knows the most."""
        found: dict[str, int] = {}
        for worker in self._workers:
            for name, count in (worker.report.peers if worker.report else {}).items():
                found[name] = max(count, found.get(name, 0))
        return found

    # -- the life of the workers

    async def _keep(self, worker: WorkerProcess) -> None:
        """Let a worker live again and again, until the crew stops or nobody of it can start."""
        backoff = Backoff(RESTART_AFTER)
        while not self._stop.is_set():
            began = self._clock()
            code = await self._live(worker)
            alive = self._clock() - began
            self._pages.ended(worker)
            if worker.report is not None:
                self._past_failed_calls += worker.report.failed_calls
                worker.report = None
            self._look()
            if self._stop.is_set():
                self._codes.append(code)
                return
            if not worker.served and not any(other.alive and other.served for other in self._workers):
                self._give_up(worker, code)
                return
            await self._pause(worker, code, alive, backoff.after(alive))

    async def _live(self, worker: WorkerProcess) -> int:
        def greeting(lifeline: int) -> list[Message]:
            first: list[Message] = [self._duty(worker.number, lifeline), self.others()]
            return [*first, Stop()] if self._stop.is_set() else first

        try:
            return await worker.live(greeting, [each.fileno() for each in self._sockets.all()])
        except OSError as error:
            worker.failed = Failed(f"a worker cannot be started: {error.strerror or error}", [], "give the machine more room")
            return 1

    async def _pause(self, worker: WorkerProcess, code: int, alive: float, wait: float) -> None:
        serving = sum(other.serving for other in self._workers)
        failed = worker.failed
        log.log(
            logging.INFO if code == 0 else logging.ERROR,
            "worker %d (pid %d) %s after %s%s; %d of %d workers serve; another starts in %s",
            worker.number, worker.pid, describe_exit(code), format_duration(alive), f": {failed.what}" if failed else "",
            serving, len(self._workers), format_duration(wait),
            extra={"event": "worker_ended", "number": worker.number, "code": code},
        )  # fmt: skip
        self._restarted()
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._stop.wait()

    def _give_up(self, worker: WorkerProcess, code: int) -> None:
        """Nobody has come to serve, and a worker ended before it did: another try would end like that as well."""
        if self._gave_up.done():
            return
        failed = worker.failed
        if failed is not None:
            error = StartError(failed.what, where=failed.where, fix=failed.fix)
        else:
            error = StartError(
                f"{self._service} cannot start: worker {worker.number} {describe_exit(code)} before it served",
                fix="see what it said above; mizzen run --workers 1 shows it alone",
            )
        self._gave_up.set_result(error)
        self._stop.set()

    # -- what is known of them, and who is told

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            for worker in self._workers:
                worker.look()
            self._look()

    def _look(self) -> None:
        """Make true what follows from how the workers are: who accepts, what is announced, what each of them knows."""
        serving = [worker.number for worker in self._workers if worker.serving]
        found = standing(len(self._workers), {worker.number: worker.standing for worker in self._workers})
        if found.verdict != self.standing.verdict and self.state is State.SERVING:
            level = logging.INFO if found.verdict == "passing" else logging.ERROR
            log.log(level, "the crew is %s: %s", found.verdict, found.note)
        self._note_silence(found)
        changed, self.standing = found != self.standing, found
        if self.state is State.STARTING and len(serving) >= enough(len(self._workers)) and not self._stop.is_set():
            self._enter(State.SERVING, f"{len(serving)} of {len(self._workers)} workers serve")
        self._tell()
        accepting = [worker.number for worker in self._workers if worker.accepting]
        if serving and not self._stop.is_set():
            accepting = serving  # one that lingers alone need not: its last callers have that time for their request
        dealt = shares(self._sharing, accepting)
        for worker in self._workers:
            wanted = dealt.get(worker.number, [])
            if worker.accepts != wanted and worker.alive:
                worker.accepts = wanted
                worker.send(Accept(wanted))
        if self._stop.is_set():
            return
        if self.door is not None:
            self.door.set(not accepting)
        if self._announcer is None and self.state is State.SERVING:
            self._announcer = self._make_announcer(lambda: (self.standing.verdict, self.standing.note))
            if self._announcer is not None:
                self._announcer.start()
        elif changed and self._announcer is not None:
            self._announcer.verdict_changed()

    def _note_silence(self, found: Standing) -> None:
        silent = {int(number) for number, text in found.workers.items() if text == SILENT}
        for number in sorted(silent - self._silent):
            log.warning(
                "worker %d has said nothing for %s: it hangs; others accept in its place",
                number,
                format_duration(SILENCE * LOOK_EVERY),
            )
        self._silent = silent

    def _tell(self) -> None:
        now = (self.state, self.standing)
        if now != self._told:
            self._told = now
            for worker in self._workers:
                worker.send(self.others())

    def others(self) -> Others:
        """What a worker is told of the crew."""
        return Others(self.state.value, self.standing.status, self.standing.note, self.standing.workers)

    async def _answer(self, worker: WorkerProcess, asked: Ask) -> None:
        worker.send(Page(asked.id, await self._pages.page()))

    # -- the end

    async def _shut_down(self, keepers: Sequence[asyncio.Task[None]]) -> int:
        if self._announcer is not None:
            began = self._clock()
            await self._announcer.withdraw()
            self._emit(StepTaken("withdraw", self._clock() - began, WITHDRAW_LIMIT))
        self._enter(State.LINGERING, "withdrawn" if self._announcer else "nothing to withdraw")
        self._tell()
        self._order(force=self._gave_up.done())
        if self.door is not None:
            await self.door.close()
        everybody = asyncio.gather(*keepers)
        force = asyncio.ensure_future(self._force.wait())
        either: list[asyncio.Future[Any]] = [everybody, force]
        await asyncio.wait(either, timeout=self._limit, return_when=asyncio.FIRST_COMPLETED)
        force.cancel()
        if not everybody.done() and self._force.is_set():
            self._order(force=True)
            await asyncio.wait({everybody}, timeout=FORCE_LIMIT)
        killed = [worker.number for worker in self._workers if worker.alive]
        if not everybody.done():
            log.error("workers %s did not end in time: killed", ", ".join(map(str, killed)))
            everybody.cancel()
            await asyncio.wait({everybody})
        self._enter(State.CLOSED, "every worker has ended")
        if self._gave_up.done():
            raise self._gave_up.result()
        return 1 if killed or any(self._codes) else 0

    def _order(self, *, force: bool) -> None:
        for worker in self._workers:
            worker.send(Stop(force))

    def _enter(self, state: State, why: str) -> None:
        now = self._clock()
        seconds, self._entered = now - self._entered, now
        self.state = state
        self._emit(StateChanged(self._service, state.value, why, seconds))

    def describe(self) -> dict[str, Any]:
        """The crew as it is now."""
        return {"state": self.state.value, "standing": self.standing._asdict(), "workers": list(map(repr, self._workers))}

    def __repr__(self) -> str:
        return f"<Supervisor of {self._service}, {self.state.value}: {self.standing.note}>"
