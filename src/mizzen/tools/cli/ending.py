"""The ends of a process's life that its event loop does not see: before a service can be stopped, and after it was."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

SIGNALS = (signal.SIGTERM, signal.SIGINT)
LIMIT = 2.0
"""Seconds for what a service left behind once everything of it is closed: it had the whole drain to end before."""


def leave_when_told() -> None:
    """Let a signal end the process with 0 until a loop takes the signals over: nothing is open yet.

    A process that is a container's first, which no signal ends by default, would not even notice.
    """
    for number in SIGNALS:
        signal.signal(number, _leave)


def leave_within(seconds: float = LIMIT) -> None:
    """End the process with 1 when it has not ended by itself in time, and name what kept it.

    A ``def`` handler's thread and a task that swallows its cancellation can be waited for, but not ended.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # it is over already, whoever asks for it again
    threading.Thread(target=_end, args=(seconds,), name="ending", daemon=True).start()


def _leave(*_: object) -> None:
    raise SystemExit(0)


def _end(seconds: float) -> None:
    time.sleep(seconds)
    threads = [thread.name for thread in threading.enumerate() if not (thread.daemon or thread is threading.main_thread())]
    left = f"the thread {', '.join(threads)}" if threads else "a task"
    print(f"error: {left} did not end within {seconds:g}s of the stop: cut off", file=sys.stderr, flush=True)
    os._exit(1)
