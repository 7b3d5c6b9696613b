"""Children: how a process that we started ended."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import threading
from contextlib import suppress


def exit_of(process: subprocess.Popen[bytes]) -> asyncio.Future[int]:
    """The exit code of a process once it has ended, negative for a signal."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()
    # A thread, since asyncio's own watching of children differs between Python versions and loops.
    threading.Thread(target=_wait, args=(process, loop, ended), name=f"wait-{process.pid}", daemon=True).start()
    return ended


def describe_exit(code: int) -> str:
    """An exit code or signal in words: ``exited with 2``, ``was killed by SIGKILL``."""
    if code >= 0:
        return f"exited with {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _wait(process: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop, ended: asyncio.Future[int]) -> None:
    code = process.wait()

    def tell() -> None:
        if not ended.done():
            ended.set_result(code)

    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(tell)
