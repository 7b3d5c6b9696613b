"""One read of a service in DNS: all the questions it takes, and what their answers come to together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec

from .records import FAMILIES, PEER, Absent, Ask, Kind, Said, preferred, weights

AT_ONCE = 16
"""Targets of one answer that are looked up at the same time; each takes two sockets."""


class Place(msgspec.Struct, frozen=True):
    """Where one instance is."""

    address: str
    port: int
    weight: int = 1


class Found(msgspec.Struct, frozen=True):
    """What a read came to."""

    places: list[Place]
    ttl: float
    """Seconds until it is out of date: the least of all answers."""
    kept: bool
    """Whether any of it may come from a cache."""


class Reader:
    """Reads one name again and again. Either all of it is known, or the read is an error: a part would look like a loss.

    Only a family (A or AAAA) that never had an address of a name may fail to be asked while the other has some: there
    are servers that know the one and never answer about the other.
    """

    def __init__(self, ask: Ask, routed: Callable[[str], bool]) -> None:
        self._ask = ask
        self._routed = routed
        self._had: dict[str, set[Kind]] = {}  # of each name, the families of its last addresses

    async def addresses(self, name: str, port: int) -> Found:
        """The addresses of ``name``; ``Absent`` when there is none."""
        had: dict[str, set[Kind]] = {}
        said = await self._addresses(name, had)
        self._had = had
        return Found([Place(each, port) for each in self._reachable(said.addresses)], said.ttl, said.kept)

    async def services(self, name: str) -> Found:
        """The addresses and ports of the SRV records of ``name``; no place where they say that the service is not there."""
        said = await self._ask(name, "SRV")
        records = preferred(said.services)
        if not records:
            return Found([], said.ttl, said.kept)
        had: dict[str, set[Kind]] = {}
        answers = {
            record.target: Said(said.ttl, said.extra[record.target], kept=said.kept)
            for record in records
            if said.extra.get(record.target)
        }
        answers |= await self._targets({record.target for record in records} - answers.keys(), had)
        if not answers:
            raise Absent(f"no target of {name} has an address, such as {records[0].target}", peer=PEER)
        self._had = had
        reachable = set(self._reachable(address for answer in answers.values() for address in answer.addresses))
        places = [
            Place(address, record.port, weight)
            for record, weight in zip(records, weights(records), strict=True)
            if record.target in answers
            for address in answers[record.target].addresses
            if address in reachable
        ]
        every = [said, *answers.values()]
        return Found(places, min(each.ttl for each in every), any(each.kept for each in every))

    async def _targets(self, names: Iterable[str], had: dict[str, set[Kind]]) -> dict[str, Said]:
        """The addresses of each name that has some: one that has none has gone between two answers."""
        free = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> Said | None:
            async with free:
                try:
                    return await self._addresses(name, had)
                except Absent:
                    return None

        ordered = sorted(names)
        tasks = [asyncio.ensure_future(one(name)) for name in ordered]
        try:
            found = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
        return {name: said for name, said in zip(ordered, found, strict=True) if said is not None}

    async def _addresses(self, name: str, had: dict[str, set[Kind]]) -> Said:
        answers = await asyncio.gather(*(self._ask(name, kind) for kind in FAMILIES), return_exceptions=True)
        found: dict[Kind, Said] = {}
        errors: dict[Kind, BaseException] = {}
        for kind, answer in zip(FAMILIES, answers, strict=True):
            if isinstance(answer, BaseException):
                errors[kind] = answer
            else:
                found[kind] = answer
        known = self._had.get(name, set())
        for kind, error in errors.items():
            if not isinstance(error, Absent) and (not found or kind in known or not isinstance(error, Exception)):
                raise error
        if not found:
            raise next(iter(errors.values()))
        had[name] = set(found)
        every = list(found.values())
        return Said(
            min(each.ttl for each in every),
            tuple(address for each in every for address in each.addresses),
            kept=any(each.kept for each in every),
        )

    def _reachable(self, addresses: Iterable[str]) -> list[str]:
        """Without the family that this machine has no way to, when both are offered: half of the calls would fail."""
        offered = list(addresses)
        families = [[each for each in offered if (":" in each) is six] for six in (False, True)]
        if not all(families):
            return offered
        return [each for family in families if self._routed(family[0]) for each in family] or offered
