"""Lifelines: no process outlives the one that started it, however that ends.

The child holds one end of a pipe whose other end only its parent has. When the parent is gone, by SIGKILL too, the
kernel closes that end and the child reads end of file. Of the ways to do this it is the one that works on every Unix,
needs no code between fork and exec, and cannot miss a parent that died first: Linux's ``PR_SET_PDEATHSIG`` is bound to
a thread and needs ctypes and a check against that race, and polling ``getppid`` is late. A thread reads it, so that a
child whose event loop hangs is ended as well. A child that is stopped (SIGSTOP) reads nothing: it ends when it is
continued.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress


def end_with(lifeline: int, *, grace: float, ask: bool) -> None:
    """End this process, and the group that it leads, ``grace`` seconds after the pipe ``lifeline`` has.

    ``ask`` sends SIGTERM at once, for a process that learns of the end in no other way.
    """
    threading.Thread(target=_wait, args=(lifeline, grace, ask), name="lifeline", daemon=True).start()


def _wait(lifeline: int, grace: float, ask: bool) -> None:
    with suppress(OSError):  # closed, which is an end as well
        while os.read(lifeline, 4096):
            continue
    if ask:
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
