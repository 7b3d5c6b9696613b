"""Snapshots on disk: one small file for each registry and service, whole or not there at all."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from mizzen.rules.discovery import Instance, is_host
from mizzen.words.clock import Clock

VERSION = 1
"""Of the file's form; a file of another one is not read."""
LARGEST = 16 * 1024 * 1024
"""Bytes that are read: 50,000 instances, and a bound on what a foreign file can cost."""


class Unusable(Exception):
    """A file that is not what it should be; the text says how."""


class _Head(msgspec.Struct):
    mizzen: int


class _Kept(msgspec.Struct):
    mizzen: int
    registry: str
    service: str
    instances: list[Instance]


class SnapshotFile:
    """Where the instances of one service are kept, as one registry had them. Every method waits for the disk."""

    def __init__(self, folder: Path, registry: str, service: str, *, wall: Clock) -> None:
        """``registry`` is its URL, without secrets; ``wall`` gives seconds since the epoch."""
        shown = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in service)[:64]
        mark = hashlib.sha256(f"{registry}\n{service}".encode()).hexdigest()[:16]
        self.path = folder / f"{shown}-{mark}.json"
        self._folder = folder
        self._registry = registry
        self._service = service
        self._wall = wall

    def write(self, instances: Sequence[Instance]) -> None:
        """Replace what is there; ``OSError`` when that cannot be done, and then the file is what it was."""
        data = msgspec.json.encode(_Kept(VERSION, self._registry, self._service, list(instances)))
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A name of its own, for several processes keep the same file; and no fsync: what a power cut costs is one hint.
        handle, draft = tempfile.mkstemp(prefix=".snapshot-", dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(draft).replace(self.path)
        except BaseException:
            with suppress(OSError):
                Path(draft).unlink()
            raise

    def read(self) -> tuple[list[Instance], float] | None:
        """What was kept, and how many seconds ago by the wall clock; None when nothing was.

        ``Unusable`` for a file that is damaged, of another version or not ours; ``OSError`` when it cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                data = file.read(LARGEST + 1)
                written = os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return None
        return self._understood(data), max(0.0, self._wall() - written)

    def _understood(self, data: bytes) -> list[Instance]:
        if len(data) > LARGEST:
            raise Unusable(f"it has more than {LARGEST} bytes")
        try:
            version = msgspec.json.decode(data, type=_Head).mizzen
            if version != VERSION:
                raise Unusable(f"it has the form of version {version}, not {VERSION}")
            kept = msgspec.json.decode(data, type=_Kept)
        except (ValueError, RecursionError) as error:  # of msgspec, and for bytes that are no text
            raise Unusable(f"it is damaged, or no snapshot ({error})") from None
        if (kept.registry, kept.service) != (self._registry, self._service):
            raise Unusable(f"it is of {kept.service} at {kept.registry}")
        for instance in kept.instances:
            if not is_host(instance.host) or not 0 < instance.port < 65536:
                raise Unusable(f"{instance.id} in it has no address that a registry would give")
        return kept.instances

    def __repr__(self) -> str:
        return f"<SnapshotFile {self.path}>"
