"""Members: processes that share one address are one instance to a registry, and only the last of them withdraws it.

Another server's ``--workers`` start processes that know nothing of each other. They meet at a lock file: the kernel
lets go of a dead process's lock, so nobody who crashed is counted.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from mizzen.rules.discovery import Instance, Registrar

LONGEST = 64
"""Bytes of a boot id that are read; ours have 32."""


class Members:
    """The processes of one instance on this machine, this one included; they share its boot id.

    ``OSError`` when the lock file cannot be had, such as in an image without a writable folder for temporary files.
    """

    def __init__(self, instance: str, boot: str, folder: Path | None = None) -> None:
        import fcntl  # on Linux and macOS

        folder = folder or Path(tempfile.gettempdir())
        name = "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in instance)
        # No link is followed, and nobody else's file is trusted: the folder may be everybody's.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._lock = fcntl.flock
        self._alone, self._shared, self._at_once = fcntl.LOCK_EX, fcntl.LOCK_SH, fcntl.LOCK_NB
        self._file = os.open(folder / f"mizzen-{os.getuid()}-{name}.lock", flags, 0o600)
        try:
            if os.fstat(self._file).st_uid != os.getuid():
                raise PermissionError("the lock file belongs to somebody else")
            with suppress(BlockingIOError):
                self._lock(self._file, self._alone | self._at_once)
                os.ftruncate(self._file, 0)
                os.pwrite(self._file, boot.encode(), 0)
            # The step from one lock to the other lets somebody in between: whose id stands then is read afterwards.
            self._lock(self._file, self._shared)
            self.boot = os.pread(self._file, LONGEST, 0).decode() or boot
        except BaseException:
            os.close(self._file)
            raise

    def leave(self) -> bool:
        """Be a member no more; whether others still are. Safe to call again, which says no."""
        if self._file < 0:
            return False
        try:
            self._lock(self._file, self._alone | self._at_once)
        except BlockingIOError:
            others = True
        else:
            others = False
        file, self._file = self._file, -1
        os.close(file)
        return others

    def __repr__(self) -> str:
        return f"<Members of {self.boot}{'' if self._file >= 0 else ', left'}>"


class SharedRegistrar:
    """A registrar whose ``withdraw`` leaves the instance registered while other members serve."""

    def __init__(self, registrar: Registrar, members: Members) -> None:
        self._registrar = registrar
        self._members = members

    async def register(self, instance: Instance, verdict: str, note: str) -> None:
        await self._registrar.register(instance, verdict, note)

    async def beat(self, instance: Instance, verdict: str, note: str) -> bool:
        return await self._registrar.beat(instance, verdict, note)

    async def mismatch(self, instance: Instance) -> str | None:
        return await self._registrar.mismatch(instance)

    async def withdraw(self, instance: Instance) -> None:
        if not self._members.leave():
            await self._registrar.withdraw(instance)
