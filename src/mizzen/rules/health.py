"""Health: checks that run in the background, whose cached results make one verdict."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from mizzen.words.clock import Clock, format_duration
from mizzen.words.errors import MizzenError

EVERY = 5.0
"""Seconds between two runs of a check: as often as the registry's heartbeat carries the verdict."""
WITHIN = 2.0
"""Seconds a check may take, as long as a call may: what is slower would fail the calls as well."""
FALL = 2
"""Failures in a row before a check that passed counts as failed: one lost packet must not take an instance out."""
RISE = 1
"""Passes in a row before a failed check counts as passed: what works again should be used again."""
EAGER = 0.5
"""Seconds between two runs of a check that has not passed yet: the start waits for it."""
SHORTEST = 0.05
"""Seconds that the background loop sleeps at the least, so that a check which overruns cannot make it spin."""
_FINE = ("ok", "ok")

Function = Callable[[], Awaitable[None] | None]
"""Raises when what it looks at cannot be used. A plain function runs on the loop: it looks, it must not wait."""
Verdict = Literal["passing", "warning", "critical"]
OnChange = Callable[[str, bool, bool, str], None]
"""Told of a check's name, whether it passes from now on, whether it is required, and the detail for our own log."""


class Check(msgspec.Struct, frozen=True):
    """One question about a dependency; times in seconds."""

    name: str
    function: Function
    required: bool = True
    every: float = EVERY
    within: float = WITHIN
    fall: int = FALL
    rise: int = RISE


class _Result:
    """What is known from the runs of one check."""

    __slots__ = ("check", "detail", "ended", "ok", "passed", "public", "started", "streak", "task", "took")

    def __init__(self, check: Check) -> None:
        self.check = check
        self.ok: bool | None = None  # the verdict that counts, hysteresis included; None before the first run
        self.passed = False
        self.streak = 0  # runs in a row that contradict ``ok``
        self.detail = self.public = "not checked yet"
        self.started: float | None = None
        self.ended: float | None = None
        self.took = 0.0
        self.task: asyncio.Task[None] | None = None

    def due(self) -> float:
        """When to run next."""
        if self.started is None:
            return float("-inf")
        return self.started + (self.check.every if self.passed else min(EAGER, self.check.every))

    def settle(self, good: bool) -> bool:
        """Count one run; whether the check's verdict is another one from now on."""
        if self.ok is None or good == self.ok:
            changed, self.streak = self.ok is None, 0
        else:
            self.streak += 1
            needed = (self.check.rise if self.passed else 1) if good else self.check.fall
            changed = self.streak >= needed
        if changed:
            self.ok, self.streak = good, 0
        self.passed = self.passed or good
        return changed


class Health:
    """Every check of one service: results are cached, runs are concurrent, bounded and never doubled."""

    def __init__(self, *, clock: Clock, sleep: Callable[[float], Awaitable[None]], on_change: OnChange | None = None) -> None:
        self._clock = clock
        self._sleep = sleep
        self._on_change = on_change
        self._results: dict[str, _Result] = {}
        self._passed = asyncio.Event()
        self._passed.set()

    def add(self, check: Check) -> None:
        """Add a check before or while it runs; ``ValueError`` for a name that is taken."""
        if check.name in self._results:
            raise ValueError(f"there is a check {check.name!r} already: give each its own name")
        self._results[check.name] = _Result(check)
        self._note_passed()

    async def refresh(self, force: bool = False) -> None:
        """Run what is due, or with ``force`` everything, and wait for it; a run under way is joined, not doubled.

        Cancelling the caller ends its waiting only: the runs go on for the others that wait for them.
        """
        running = self._launch(force)
        if running:
            await asyncio.wait(running)

    async def run(self) -> None:
        """Keep every result fresh until cancelled; a slow check does not hold up the others."""
        try:
            while True:
                self._launch(False)
                now = self._clock()
                soonest = min((result.due() for result in self._results.values()), default=now + EVERY)
                await self._sleep(max(SHORTEST, soonest - now))
        finally:
            await self.close()

    async def close(self) -> None:
        """Cancel the runs under way and wait for them."""
        running = [result.task for result in self._results.values() if result.task is not None]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    async def passed(self) -> None:
        """Wait until every required check has passed once."""
        await self._passed.wait()

    def waiting(self) -> list[str]:
        """Names of the required checks that never passed yet."""
        return [name for name, result in self._results.items() if result.check.required and not result.passed]

    @property
    def verdict(self) -> Verdict:
        """``critical`` while a required check fails or has not run; an optional one that fails is still a pass.

        Never ``warning``: registries take an instance with a warning out of their passing ones, like a failed one.
        """
        return "critical" if any(result.check.required and not result.ok for result in self._results.values()) else "passing"

    @property
    def note(self) -> str:
        """The verdict's reason in one line, without secrets, for a registry and for people."""
        failing = [
            f"{name}{'' if result.check.required else ' (optional)'}: {result.public}"
            for name, result in self._results.items()
            if not result.ok
        ]
        return "; ".join(failing) or "ok"

    def report(self) -> dict[str, Any]:
        """The body of ``/health``: ``ok``, ``degraded`` (an optional check fails) or ``unavailable``, and each check."""
        now = self._clock()
        if self.verdict == "critical":
            status = "unavailable"
        else:
            status = "ok" if all(result.ok for result in self._results.values()) else "degraded"
        return {"status": status, "checks": {name: _shown(result, now) for name, result in self._results.items()}}

    def describe(self) -> dict[str, Any]:
        """The report with the details that are for our own eyes."""
        report = self.report()
        for name, result in self._results.items():
            report["checks"][name]["detail"] = result.detail
        return report

    def __repr__(self) -> str:
        return f"<Health {self.verdict}: {self.note}>"

    def _launch(self, force: bool) -> list[asyncio.Task[None]]:
        now = self._clock()
        running = []
        for result in self._results.values():
            if result.task is None and (force or result.due() <= now):
                result.started = now
                # An empty context: a check belongs to no request, so no request's deadline may end it.
                result.task = asyncio.get_running_loop().create_task(
                    self._run(result), name=f"check-{result.check.name}", context=contextvars.Context()
                )
            if result.task is not None:
                running.append(result.task)
        return running

    async def _run(self, result: _Result) -> None:
        began = self._clock()
        failure: BaseException | None = None
        limit = asyncio.timeout(result.check.within)
        try:
            async with limit:
                answer = result.check.function()
                if inspect.isawaitable(answer):
                    await answer
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            failure = error  # something that the check waits for was cancelled, not the check
        except Exception as error:
            failure = error
        finally:
            result.task = None
        result.ended = self._clock()
        result.took = result.ended - began
        late = f"no answer within {format_duration(result.check.within)}"
        self._settle(result, (late, late) if limit.expired() else _reasons(failure))

    def _settle(self, result: _Result, reasons: tuple[str, str]) -> None:
        good = reasons == _FINE
        changed = result.settle(good)
        if result.ok or not good:  # until it has risen, the last reason still stands
            result.detail, result.public = reasons
        self._note_passed()
        if changed and self._on_change is not None:
            self._on_change(result.check.name, good, result.check.required, "" if good else reasons[0])

    def _note_passed(self) -> None:
        if self.waiting():
            self._passed.clear()
        else:
            self._passed.set()


def _shown(result: _Result, now: float) -> dict[str, Any]:
    return {
        "ok": bool(result.ok),
        "required": result.check.required,
        "detail": result.public,
        "age_s": None if result.ended is None else round(now - result.ended, 3),
        "took_ms": round(result.took * 1000, 3),
    }


def _reasons(error: BaseException | None) -> tuple[str, str]:
    """The reason for our log, and the one for everybody: only our own words are known to hold no secret."""
    if error is None:
        return _FINE
    kind = type(error).__name__
    try:
        text = str(error)
    except Exception:  # a check of the user's raised something that cannot even be printed
        text = ""
    detail = f"{kind}: {text}" if text else kind
    return detail, (text or kind) if isinstance(error, MizzenError) else kind
