"""The lifeline between `mizzen dev` and its children: none of them outlives it, however it ends.

Each child's standard input is a pipe whose other end only the supervisor holds. When the supervisor is gone, by
SIGKILL too, the kernel closes that end and the child reads end of file. Of the ways to do this it is the one that
works on every Unix, needs no code between fork and exec, and cannot miss a parent that died first: Linux's
``PR_SET_PDEATHSIG`` is bound to a thread and needs ctypes and a check against that race, and polling ``getppid`` is
late. A thread reads it, so that a child whose event loop hangs is ended as well. A child that is stopped
(SIGSTOP) reads nothing: it ends when it is continued.
"""

from __future__ import annotations

import os
import signal
import threading
import time

GRACE = 8.0
"""Seconds from SIGTERM to SIGKILL, as the supervisor itself has it."""


def stop_when_stdin_ends(descriptor: int = 0, *, grace: float = GRACE) -> threading.Thread:
    """End this process, and the process group that it leads, when ``descriptor`` comes to its end."""
    thread = threading.Thread(target=_wait, args=(descriptor, grace), name="lifeline", daemon=True)
    thread.start()
    return thread


def _wait(descriptor: int, grace: float) -> None:
    try:
        while os.read(descriptor, 4096):
            continue
    except OSError:  # closed, which is an end as well
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
