"""DNS, read: A and AAAA records behind one port, or SRV records that name the port too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from mizzen.rules.discovery import Feed, Instance, instance_id
from mizzen.words.clock import Random
from mizzen.words.errors import CallTimeout

from .reading import Found, Place, Reader
from .records import PEER, Ask

LEAST, MOST = 1.0, 30.0
"""Seconds between two reads, whatever the time to live: 0 must not ask without a pause, and a day must not hide a new
instance for one."""
SPREAD = 0.1
"""Share that is added to the time to live at random: many clients of one name must not ask at the same moment, and
none before the copy in a cache between has ended."""
RETRY_LEAST, RETRY_MOST = 1.0, 30.0
"""Seconds after a failed read, doubling, with full jitter (.NET's service discovery has the same two)."""
READ = 10.0
"""Seconds for all questions of one read: each has a limit of its own, but an answer may have many targets."""

Mode = Literal["a", "srv"]


class DnsResolver:
    """Reads the instances of a service from DNS. Holds no policy: errors and sets go to the feed.

    ``name`` makes the DNS name from the service's. ``a`` reads A and AAAA records and needs a ``port``; ``srv`` takes
    the records of the lowest priority. That there is no such name, or none with such records, is an error to the feed: a
    negative answer is kept in caches like any other, so asking twice does not tell a blip from the truth. Only an SRV
    target of ``.``, which says in so many words that the service is not there, is an empty set. ``routed`` says whether
    this machine has a way to an address; it is asked when both families are offered.
    """

    def __init__(
        self,
        ask: Ask,
        *,
        name: Callable[[str], str],
        mode: Mode,
        port: int = 0,
        scheme: str = "http",
        random: Random,
        routed: Callable[[str], bool] = lambda address: True,
    ) -> None:
        self._ask = ask
        self._name = name
        self._mode = mode
        self._port = port
        self._scheme = scheme
        self._random = random
        self._routed = routed
        self._hurried: dict[str, asyncio.Event] = {}
        self._watched: dict[str, str] = {}

    async def watch(self, service: str, feed: Feed) -> None:
        """Feed every change of ``service`` until cancelled; errors go to the feed, then it tries again for ever."""
        reader = Reader(self._ask, self._routed)
        hurried = self._hurried.setdefault(service, asyncio.Event())
        failures = 0
        while True:
            try:
                found = await self._read(reader, service)
            except Exception as error:  # whatever it was, a watch that ends would freeze the set without a word
                failures += 1
                self._watched[service] = f"failed {failures} times: {error}"
                feed.error(error)
                await asyncio.sleep(self._backoff(failures))
                continue
            failures = 0
            self._watched[service] = f"{len(found.places)} instances for {found.ttl:g}s"
            again = feed.snapshot([self._instance(service, place) for place in found.places])
            hurried.clear()
            await asyncio.sleep(LEAST)
            if not again or found.kept:  # a second opinion from a cache would be the first one
                await _until(hurried, self._pause(found.ttl) - LEAST)

    def refresh(self, service: str) -> None:
        """Read again soon, since an address of ``service`` does not answer: ``LEAST`` after the last read, or now."""
        if service in self._hurried:
            self._hurried[service].set()

    async def _read(self, reader: Reader, service: str) -> Found:
        name = self._name(service)
        try:
            async with asyncio.timeout(READ):
                return await (reader.services(name) if self._mode == "srv" else reader.addresses(name, self._port))
        except TimeoutError:
            raise CallTimeout(f"DNS did not tell all about {name} in {READ:g}s", peer=PEER, limit="call") from None

    def _instance(self, service: str, place: Place) -> Instance:
        return Instance(
            id=instance_id(service, place.address, place.port),
            service=service,
            host=place.address,
            port=place.port,
            scheme=self._scheme,
            weight=place.weight,
        )

    def _pause(self, ttl: float) -> float:
        return max(LEAST, min(ttl, MOST)) * (1 + SPREAD * self._random())

    def _backoff(self, failures: int) -> float:
        most = min(RETRY_MOST, RETRY_LEAST * 2.0 ** min(failures - 1, 10))
        return max(RETRY_LEAST, most * self._random())

    def describe(self) -> dict[str, object]:
        """What each watch came to last."""
        return {"backend": "dns", "records": self._mode, "watched": dict(self._watched)}

    def __repr__(self) -> str:
        return f"<DnsResolver {', '.join(f'{name}: {state}' for name, state in self._watched.items()) or 'idle'}>"


async def _until(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
