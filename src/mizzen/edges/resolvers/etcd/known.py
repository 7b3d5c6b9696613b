"""Known: the instances of one service as etcd has them, kept up by what changes: a change costs what it says, not the set."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import msgspec

from mizzen.rules.discovery import Instance

from .answers import Header, KeyValue, Range
from .entry import SERVED, entry_in, id_in, instance_of

log = logging.getLogger("mizzen.discovery")


class Event(msgspec.Struct):
    """One change of one key."""

    kv: KeyValue
    type: str = "PUT"


class Known:
    """Every key of a service with what it says, up to ``revision`` of ``cluster``."""

    def __init__(self, service: str, prefix: str) -> None:
        self.service = service
        self.cluster = ""
        self.revision = 0
        """0 until a read that every member agreed to."""
        self._prefix = prefix
        self._entries: dict[str, tuple[str, Instance | None]] = {}  # key -> value, both base64, and who that is
        self._told: set[str] = set()

    def replace(self, answer: Range) -> bool:
        """Take a complete read; True when etcd went back since the one before: restored, or another cluster."""
        header = answer.header
        regressed = self.revision > 0 and (header.cluster_id != self.cluster or header.revision < self.revision)
        self.cluster, self.revision = header.cluster_id, header.revision
        self.take(answer)
        return regressed

    def take(self, answer: Range) -> None:
        """The same of a read that nobody else agreed to: it is no measure of what comes later."""
        before = self._entries
        self._entries = {}
        for kv in answer.kvs:
            found = before.get(kv.key)
            self._entries[kv.key] = found if found is not None and found[0] == kv.value else (kv.value, self._read(kv))
        self._told &= self._entries.keys()

    def apply(self, events: Iterable[Event], header: Header) -> None:
        """Take changes in their order."""
        for event in events:
            kv = event.kv
            if event.type == "DELETE":
                self._entries.pop(kv.key, None)
                self._told.discard(kv.key)
            else:
                self._entries[kv.key] = (kv.value, self._read(kv))
        self.revision = max(self.revision, header.revision)

    def agrees(self, header: Header, changed: bool, count: int) -> bool:
        """Whether a member that has ``count`` keys, and said whether any changed after ``revision``, has just these."""
        return (header.cluster_id, changed, count) == (self.cluster, False, len(self._entries)) and (
            header.revision >= self.revision
        )

    def instances(self) -> list[Instance]:
        """Who may be called."""
        return [instance for _, instance in self._entries.values() if instance is not None]

    def __str__(self) -> str:
        return f"{len(self.instances())} instances at revision {self.revision}"

    def _read(self, kv: KeyValue) -> Instance | None:
        id = id_in(kv.key, self._prefix, self.service)
        try:
            entry = entry_in(kv.value)
        except ValueError as error:  # somebody else's, or a mistake: one bad value must not hide the good ones
            if kv.key not in self._told:
                self._told.add(kv.key)
                log.warning("etcd's key %s/%s/%s is left out: %s", self._prefix, self.service, id, error)
            return None
        self._told.discard(kv.key)
        return instance_of(self.service, id, entry) if entry.status in SERVED and id else None
