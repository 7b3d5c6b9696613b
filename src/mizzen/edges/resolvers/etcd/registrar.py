"""etcd, written: register, beat, withdraw; a key under a lease, https://etcd.io/docs/v3.5/learning/api/#lease-api."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from mizzen.rules.discovery import DuplicateId, Instance
from mizzen.words.clock import Clock, format_duration, monotonic
from mizzen.words.errors import PeerError

from .answers import PEER, KeyValue, Range, decoder, refused
from .entry import boot_in, entry_in, key_of, value_of
from .gateway import Gateway
from .resolver import PREFIX

TTL = 15.0
"""Seconds without a beat until etcd drops the instance: three beats. Under 10 an outage of etcd's own could end leases that
it should have kept (a revoke that was queued before the leader was lost)."""
ROUNDS = 3
"""Tries at a key that others write at the same time."""
BOOT_SHOWN = 8
"""Characters of a boot id that tell two lives apart in a message."""


class _Life(msgspec.Struct):
    """What is known of one life of an instance that was announced here."""

    lease: int = 0
    """0 while there is none."""
    verdict: str = ""
    seen: float | None = None
    """When its key was last seen to be its own, on our clock."""


class EtcdRegistrar:
    """Keeps one key of each instance in etcd, under a lease of its own. Raises ``CallError`` when etcd cannot be reached.

    The key is ``<prefix>/<service>/<id>``: the first registration of a life takes the place of an earlier one, whose late
    withdrawal then finds nothing of its own. ``ttl`` in seconds.
    """

    def __init__(self, gateway: Gateway, *, prefix: str = PREFIX, ttl: float = TTL, clock: Clock = monotonic) -> None:
        self._gateway = gateway
        self._prefix = prefix
        self._ttl = ttl
        self._clock = clock
        self._lives: dict[tuple[str, str], _Life] = {}

    async def register(self, instance: Instance, verdict: str, note: str) -> None:
        """Announce ``instance`` with its current verdict; safe to repeat. The first time it takes the place of an
        earlier life; ``DuplicateId`` when another one has taken its place since."""
        doing = f"registering {instance.id}"
        life = self._lives.setdefault((instance.id, instance.boot), _Life())
        if not (life.lease and await self._renew(life, doing)):
            life.lease = await self._grant(doing)
        key = self._key(instance)
        value = value_of(instance, verdict, note)
        compare = {"target": "CREATE", "result": "EQUAL", "key": key, "create_revision": "0"}
        for _ in range(ROUNDS):
            found = await self._put(key, value, life, compare, doing)
            if found is None:
                life.verdict, life.seen = verdict, self._clock()
                return
            if life.seen is not None and boot_in(found.value) not in ("", instance.boot):
                raise self._duplicate(instance, found, life.seen)
            compare = {"target": "MOD", "result": "EQUAL", "key": key, "mod_revision": str(found.mod_revision)}
        raise PeerError(f"{doing} in etcd: others write the same key all the time", peer=PEER)

    async def beat(self, instance: Instance, verdict: str, note: str) -> bool:
        """Say that the instance lives, with its verdict; False when etcd does not have it any more: register again.

        ``DuplicateId`` when another life has taken its place. Writes only when the verdict changed.
        """
        doing = f"the heartbeat of {instance.id}"
        life = self._lives.get((instance.id, instance.boot))
        if life is None or not life.lease:
            return False
        if not await self._renew(life, doing):
            return False
        # the lease may live while the key is gone: deleted by an operator, or under another lease
        key = self._key(instance)
        compare = {"target": "LEASE", "result": "EQUAL", "key": key, "lease": str(life.lease)}
        changed = verdict != life.verdict
        put = [{"request_put": {"key": key, "value": value_of(instance, verdict, note), "lease": str(life.lease)}}]
        txn = {"compare": [compare], "success": put if changed else [], "failure": [{"request_range": {"key": key}}]}
        said = await self._gateway.ask("/v3/kv/txn", txn, _txn, doing)
        if said.succeeded:
            life.verdict, life.seen = verdict, self._clock()
            return True
        found = said.found
        if found is None or boot_in(found.value) in ("", instance.boot):
            return False
        raise self._duplicate(instance, found, life.seen)

    async def withdraw(self, instance: Instance) -> None:
        """Remove this life of ``instance``; one that is gone, or lives again under another boot id, is left alone."""
        doing = f"withdrawing {instance.id}"
        key = self._key(instance)
        life = self._lives.pop((instance.id, instance.boot), None)
        if life is not None and life.lease:
            # takes the key with it, if it is still the lease's, and keeps out what may be on its way under that lease
            reply = await self._gateway.send("/v3/lease/revoke", {"ID": str(life.lease)}, doing)
            if reply.code and not reply.no_lease:
                raise refused(reply, doing, user=self._gateway.user)
        left = await self._gateway.ask("/v3/kv/range", {"key": key}, _range, doing)
        for found in left.kvs:
            if boot_in(found.value) == instance.boot:
                compare = {"target": "MOD", "result": "EQUAL", "key": key, "mod_revision": str(found.mod_revision)}
                txn = {"compare": [compare], "success": [{"request_delete_range": {"key": key}}]}
                await self._gateway.ask("/v3/kv/txn", txn, _txn, doing)

    async def mismatch(self, instance: Instance) -> str | None:
        """None: nobody but us says anything about an instance, so nothing disagrees with a beat that passes."""
        return None

    # -- the calls

    async def _grant(self, doing: str) -> int:
        # seconds, whole ones; etcd gives more where its elections take longer
        granted = await self._gateway.ask("/v3/lease/grant", {"TTL": str(math.ceil(self._ttl))}, _lease, doing)
        return granted.id

    async def _renew(self, life: _Life, doing: str) -> bool:
        """Whether the lease lives, for its whole time from now."""
        said = await self._gateway.ask("/v3/lease/keepalive", {"ID": str(life.lease)}, _renewed, doing)
        return said.result.ttl > 0  # etcd says 200 of a lease that it does not have, and no TTL

    async def _put(self, key: str, value: str, life: _Life, compare: dict[str, str], doing: str) -> KeyValue | None:
        """Put the key if ``compare`` holds; what is there if not, None when it is put."""
        put = {"key": key, "value": value, "lease": str(life.lease)}
        txn = {
            "compare": [compare],
            "success": [{"request_put": put}],
            "failure": [{"request_range": {"key": key}}],
        }
        said = await self._gateway.ask("/v3/kv/txn", txn, _txn, doing)
        if said.succeeded:
            return None
        # whoever had it is gone by now: nothing can be compared with that, and the next round says so
        return said.found or KeyValue(key=key)

    def _key(self, instance: Instance) -> str:
        return key_of(self._prefix, instance.service, instance.id)

    def _duplicate(self, instance: Instance, found: KeyValue, seen: float | None) -> DuplicateId:
        try:
            entry = entry_in(found.value)
            other = f"boot {entry.boot[:BOOT_SHOWN]} at {entry.host}:{entry.port}"
        except ValueError:
            other = "something else"
        ago = f" {format_duration(self._clock() - seen)} ago" if seen is not None else ""
        return DuplicateId(
            f"{instance.id} was ours in etcd{ago} and is now {other}, while we are boot {instance.boot[:BOOT_SHOWN]} at"
            f" {instance.host}:{instance.port}: two processes share one id; give each an instance_id of its own, or none,"
            " and end the one that is not wanted",
            peer=PEER,
        )

    def describe(self) -> dict[str, Any]:
        """How instances are registered, and where."""
        return {"backend": "etcd", "ttl_s": self._ttl, "prefix": self._prefix, **self._gateway.describe()}

    def __repr__(self) -> str:
        return f"<EtcdRegistrar lease {format_duration(self._ttl)}, {len(self._lives)} announced>"


class _Granted(msgspec.Struct):
    id: int = msgspec.field(name="ID")


class _Ttl(msgspec.Struct):
    ttl: int = msgspec.field(name="TTL", default=0)


class _Renewed(msgspec.Struct):
    result: _Ttl


class _Response(msgspec.Struct):
    response_range: Range | None = None


class _Txn(msgspec.Struct):
    succeeded: bool = False
    responses: list[_Response] = []

    @property
    def found(self) -> KeyValue | None:
        """The key that the other branch of the transaction read."""
        for each in self.responses:
            for kv in each.response_range.kvs if each.response_range is not None else ():
                return kv
        return None


_range, _lease, _renewed, _txn = decoder(Range), decoder(_Granted), decoder(_Renewed), decoder(_Txn)
