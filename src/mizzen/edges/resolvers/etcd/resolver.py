"""etcd, read: a list of a service's keys, then a watch from there on, https://etcd.io/docs/v3.5/learning/api/#watch-api."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import msgspec

from mizzen.rules.discovery import Feed
from mizzen.words.clock import Clock, Random, monotonic
from mizzen.words.errors import PeerError

from .answers import PEER, Header, Range, Trouble, decoder
from .entry import span_of
from .gateway import Gateway, Member
from .known import Event, Known
from .lines import Lines

PREFIX = "/mizzen"
"""Above the services: etcd is shared with others."""
SILENCE = 15.0
"""Seconds without a word on a watch until the member is asked whether it has anything new. As long as a lease, so that a
watch which died in silence hides the end of an instance for no longer than that takes to show."""
RELIST, SPREAD = 300.0, 0.2
"""Seconds between complete reads, whatever the watch says, and the share by which they vary: servers lose events
(etcd-io/etcd#18089, #19179)."""
BACKOFF_BASE, BACKOFF_CAP, BACKOFF_FLOOR = 0.5, 15.0, 0.05
"""Seconds, full jitter: everybody who watched a member that dies comes to the next one."""
SETTLED = 10.0
"""Seconds after which a watch that ends was none that failed."""
UNSTABLE = 3
"""Watches in a row that end before that until it is told: what stands between may not let streams through."""

log = logging.getLogger("mizzen.discovery")


class _Heard(msgspec.Struct):
    """One message on a watch."""

    header: Header = msgspec.field(default_factory=Header)
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    cancel_reason: str = ""
    fragment: bool = False
    """Whether the next message goes on with the same changes."""
    events: list[Event] = []


class _Line(msgspec.Struct):
    result: _Heard | None = None
    error: Trouble | None = None


_range = decoder(Range)
_line = decoder(_Line)


class EtcdResolver:
    """Reads the instances of a service from etcd, those whose verdict lets them be called. Holds no policy.

    ``silence`` and ``relist`` in seconds.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        sleep: Callable[[float], Awaitable[None]],
        random: Random,
        prefix: str = PREFIX,
        silence: float = SILENCE,
        relist: float = RELIST,
        clock: Clock = monotonic,
    ) -> None:
        self._gateway = gateway
        self._sleep = sleep
        self._random = random
        self._prefix = prefix
        self._silence = silence
        self._relist = relist
        self._clock = clock
        self._watched: dict[str, str] = {}

    async def watch(self, service: str, feed: Feed) -> None:
        """Feed every change of ``service`` until cancelled; errors go to the feed, then it tries again for ever."""
        known = Known(service, self._prefix)
        failures = breaks = 0
        begun = False
        while True:
            try:
                await self._list(known, feed)
            except Exception as error:  # whatever it was, a watch that ends would freeze the set without a word
                failures += 1
                self._watched[service] = f"failed {failures} times: {error}"
                begun = begun or known.revision > 0 or await self._begin_without_quorum(known, feed)
                feed.error(error)
                await self._sleep(self._backoff(failures))
                continue
            failures, began = 0, self._clock()
            try:
                await self._follow(known, feed)
            except Exception as error:  # the set is as good as a moment ago: the read that follows tells whether etcd is lost
                breaks = 1 if self._clock() - began >= SETTLED else breaks + 1
                self._watched[service] = f"{known}; its watch ended: {error}"
                if breaks == UNSTABLE:
                    log.warning("etcd's watch of %s does not hold, so it is read every few seconds instead: %s", service, error)
                await self._sleep(self._backoff(breaks))
            else:
                breaks = 0

    async def _list(self, known: Known, feed: Feed) -> None:
        """A complete read that most members agree to, and a second one where the feed asks for that."""
        for _ in range(2):
            answer = await self._gateway.ask("/v3/kv/range", self._span(known), _range, f"a look-up of {known.service}")
            regressed = known.replace(answer)
            self._watched[known.service] = str(known)
            if not feed.snapshot(known.instances(), regressed=regressed):
                return

    async def _begin_without_quorum(self, known: Known, feed: Feed) -> bool:
        """What any one member remembers, for a start while etcd has no leader; the error that is fed next marks it as old.

        True when there was something.
        """
        doing = f"a look-up of {known.service} without a leader"
        body = {**self._span(known), "serializable": True}
        try:
            known.take(await self._gateway.ask("/v3/kv/range", body, _range, doing, leader=False))
        except Exception:  # the error that is fed is the one of the read before; this one must not end the watch
            return False
        found = known.instances()
        if found:  # a member that has nothing may just be new
            feed.snapshot(found)
        return bool(found)

    async def _follow(self, known: Known, feed: Feed) -> None:
        """Feed what changes after the last read; returns when a new one is due, raises when the watch ends before."""
        create = {
            **self._span(known),
            "start_revision": str(known.revision + 1),
            "progress_notify": True,
            "fragment": True,
        }
        stream = await self._gateway.open("/v3/watch", {"create_request": create}, f"a watch of {known.service}")
        lines = Lines(stream.response)
        try:
            await self._hear(lines, stream.member, known, feed)
        except _Canceled:
            self._gateway.forget(stream.token)  # 3.5 says "permission denied" of a token that it does not know any more
            raise
        except _Compacted:
            raise
        except Exception:
            self._gateway.leave(stream.member)
            raise
        finally:
            await lines.close()

    async def _hear(self, lines: Lines, member: Member, known: Known, feed: Feed) -> None:
        due = self._clock() + self._relist * (1 - SPREAD + 2 * SPREAD * self._random())
        parts: list[Event] = []
        while (left := due - self._clock()) > 0:
            read = await lines.next(min(left, self._silence))
            if read is None:
                if self._clock() >= due or not await self._agrees(member, known) or feed.snapshot(known.instances()):
                    return
                continue
            changed = False
            for line in read:
                heard = self._heard(line, known)
                parts += heard.events
                if heard.fragment:
                    continue
                if not heard.created:  # its revision is where the cluster is, not how far we were told
                    known.apply(parts, heard.header)
                changed = changed or bool(parts)
                parts = []
            if changed:  # once for all that came together: what went and came again was never away
                self._watched[known.service] = str(known)
                if feed.snapshot(known.instances()):
                    return

    def _heard(self, line: bytes, known: Known) -> _Heard:
        try:
            said = _line.decode(line)
        except (ValueError, RecursionError) as error:  # msgspec's, and what it lets through
            raise PeerError(f"what a watch of {known.service} says does not come from etcd ({error})", peer=PEER) from None
        if said.error is not None:
            why = said.error.message or "it does not say why"
            raise PeerError(f"etcd ended the watch of {known.service}: {why}", peer=PEER)
        heard = said.result or _Heard()
        if heard.canceled:
            if heard.compact_revision:
                raise _Compacted(f"etcd has forgotten what changed before revision {heard.compact_revision}", peer=PEER)
            why = heard.cancel_reason or "it does not say why"
            raise _Canceled(f"etcd refuses the watch of {known.service}: {why}", peer=PEER)
        if heard.created and heard.header.cluster_id != known.cluster:
            raise PeerError(f"another etcd cluster answers, {heard.header.cluster_id}", peer=PEER)
        return heard

    async def _agrees(self, member: Member, known: Known) -> bool:
        """Whether the member that has been silent has nothing new; asks it alone, and no other member."""
        body = {
            **self._span(known),
            "serializable": True,
            "keys_only": True,
            "min_mod_revision": str(known.revision + 1),
        }
        said = await self._gateway.ask("/v3/kv/range", body, _range, f"a look at {known.service}", at=member)
        return known.agrees(said.header, bool(said.kvs), said.count)

    def _span(self, known: Known) -> dict[str, object]:
        return {**span_of(self._prefix, known.service)}

    def _backoff(self, failures: int) -> float:
        most = min(BACKOFF_CAP, BACKOFF_BASE * 2.0 ** min(failures - 1, 10))
        return max(BACKOFF_FLOOR, most * self._random())

    def describe(self) -> dict[str, object]:
        """Whom it asks, and what each watch came to last."""
        return {"backend": "etcd", "prefix": self._prefix, **self._gateway.describe(), "watched": dict(self._watched)}

    def __repr__(self) -> str:
        return f"<EtcdResolver {', '.join(f'{name}: {state}' for name, state in self._watched.items()) or 'idle'}>"


class _Canceled(PeerError):
    """etcd ended a watch for a reason that is no fault of the member."""


class _Compacted(PeerError):
    """etcd ended a watch whose past it has forgotten."""
