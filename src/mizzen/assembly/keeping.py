"""Keeping: what discovery knows of each peer goes to disk, for a start while the registry is away."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from mizzen.edges.snapshots import SnapshotFile, Unusable
from mizzen.rules.discovery import EndpointStore, Instance
from mizzen.words.clock import Clock

RECALL_AFTER = 1.0
"""Seconds that a start waits for the registry's first word before it takes the last one of an earlier life from disk: one
that works answers in milliseconds."""
CONFIRM_EVERY = 60.0
"""Seconds between writes of a set that stays the same, so that its file is not much older than the registry's last word."""
CLOSE_LIMIT = 1.0
"""Seconds for a write under way when the service stops: a disk that hangs must not hold it up."""

log = logging.getLogger("mizzen.discovery")


class DiskThreads(Executor):
    """A daemon thread for each piece of work: one that hangs with its disk keeps the process from nothing, nor from its end."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        thread = threading.Thread(target=_work, args=(future, partial(fn, *args, **kwargs)), name="disk", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads are to be had
            future.set_exception(OSError(str(error)))
        return future


class Keeping:
    """The folder of one process's snapshots."""

    def __init__(self, folder: str, *, wall: Clock = time.time) -> None:
        self.folder = Path(folder).absolute()
        self._wall = wall
        self._failing = False

    def keeper(self, registry: str, service: str) -> Keeper:
        """Keeps the instances of ``service`` as ``registry`` has them; the URL without secrets."""
        return Keeper(self, SnapshotFile(self.folder, registry, service, wall=self._wall))

    def failed(self, error: OSError) -> None:
        """Say so once, until a write succeeds: a full disk fails all of them, and the service does not need it."""
        if not self._failing:
            text = "snapshots cannot be kept in %s: %s; a start without the registry would know nobody"
            log.warning(text, self.folder, error.strerror or error)
        self._failing = True

    def succeeded(self) -> None:
        """The disk takes them again."""
        if self._failing:
            log.info("snapshots are kept in %s again", self.folder)
        self._failing = False

    def __repr__(self) -> str:
        return f"<Keeping {self.folder}{', failing' if self._failing else ''}>"


class Keeper:
    """The snapshot of one peer on disk, which is waited for in at most two threads: to read it once, and to write it."""

    def __init__(self, keeping: Keeping, file: SnapshotFile) -> None:
        self.file = file
        self._keeping = keeping
        self._threads = DiskThreads()
        self._wanted: Sequence[Instance] | None = None
        self._writing: asyncio.Task[None] | None = None
        self._reads = 0
        self._kept: Sequence[Instance] | None = None
        self._kept_at = 0.0

    def keep(self, store: EndpointStore, now: float) -> None:
        """Have the store's instances on disk if they changed, and now and then if the registry was read again since."""
        if not store.reads:
            return  # they are from disk
        if store.instances is self._kept and (store.reads == self._reads or now - self._kept_at < CONFIRM_EVERY):
            return
        self._reads, self._kept_at = store.reads, now
        self._kept = self._wanted = store.instances
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write(), name=f"keep-{store.service}")

    async def recall(self, store: EndpointStore, failed: asyncio.Event) -> None:
        """Give the store what is on disk when the first read has ``failed`` or takes too long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RECALL_AFTER):
                await failed.wait()
        if store.first:
            return
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, self.file.read)
        except (Unusable, OSError) as error:
            log.warning("%s is ignored: %s", self.file.path, getattr(error, "strerror", None) or error)
            return
        if found is not None:
            store.recall(*found)

    async def _write(self) -> None:
        try:
            while (wanted := self._wanted) is not None:
                self._wanted = None
                try:
                    await asyncio.get_running_loop().run_in_executor(self._threads, self.file.write, wanted)
                except OSError as error:
                    self._keeping.failed(error)
                else:
                    self._keeping.succeeded()
        finally:
            self._writing = None

    async def close(self) -> None:
        """Wait for a write under way, but not for long."""
        writing = self._writing
        if writing is None:
            return
        await asyncio.wait([writing], timeout=CLOSE_LIMIT)
        writing.cancel()
        await asyncio.wait([writing])

    def __repr__(self) -> str:
        return f"<Keeper of {self.file.path}>"


def _work(future: Future[Any], work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except Exception as error:
        future.set_exception(error)
