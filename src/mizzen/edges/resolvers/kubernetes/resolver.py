"""Kubernetes, read: one list and one watch of the EndpointSlices of each Service.

https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

import msgspec

from mizzen.rules.discovery import Feed
from mizzen.words.clock import Clock, Random, monotonic
from mizzen.words.errors import PeerError
from mizzen.words.handler import Handler
from mizzen.words.message import Body

from .api import PEER, TIMEOUT, Api, Refused, Status, TokenFile, forbidden, refusal
from .slices import Choice, Metadata, Slice, instances_of

LIFE = (300.0, 600.0)
"""Seconds that a watch is asked to last, at random in between: client-go's, so that not all end at once."""
SILENCE = 150.0
"""Seconds without a line after which a watch is begun anew. Servers usually say once a minute that they are there; where
nothing at all happens the first such word takes two (1.34). A connection that died silently is found out in that time, and
a server that is quieter still is asked a little more often."""
PAGE = 500
"""EndpointSlices in one answer: client-go's."""
PAGES = 100
"""Pages of one list: 50,000 slices are more endpoints than a cluster has pods, so whoever gives out more never ends."""
BACKOFF_BASE, BACKOFF_CAP = 0.8, 30.0
"""Seconds, client-go's, at random between the first and what it has doubled to: a server that is back meets us one by one."""
SETTLED = 10.0
"""Seconds after which the end of a watch is no failure; one that ended sooner, and had nothing to say, is one. So is one
that was over in less than ``BACKOFF_BASE``, whatever it said: it could say the same again and again."""
LINE = 16 * 1024 * 1024
"""Bytes of one event: a slice of the 1000 endpoints that it may have takes half a megabyte."""

T = TypeVar("T")


class KubernetesResolver:
    """Reads the endpoints of a Service from an API server. Holds no policy: errors and sets go to the feed.

    ``name`` says what the Service of a peer is called; ``life``, ``silence`` and ``timeout`` in seconds.
    """

    def __init__(
        self,
        call: Handler,
        *,
        namespace: str,
        token: TokenFile | None,
        sleep: Callable[[float], Awaitable[None]],
        random: Random,
        choice: Choice | None = None,
        name: Callable[[str], str] = str,
        life: tuple[float, float] = LIFE,
        silence: float = SILENCE,
        timeout: float = TIMEOUT,
        clock: Clock = monotonic,
    ) -> None:
        self.namespace = namespace
        self.choice = choice or Choice()
        self._api = Api(call, token=token, timeout=timeout, clock=clock)
        self._path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        self._sleep = sleep
        self._random = random
        self._name = name
        self._life = life
        self._silence = silence
        self._clock = clock
        self._watched: dict[str, str] = {}

    async def watch(self, service: str, feed: Feed) -> None:
        """Feed every change of ``service`` until cancelled; errors go to the feed, then it tries again for ever."""
        known = _Known(service, f"kubernetes.io/service-name={self._name(service)}")
        failures = 0
        while True:
            began, known.heard, wait, failed = self._clock(), False, 0.0, False
            try:
                if not known.current:
                    await self._list(known, feed)
                if known.current:
                    await self._follow(known, feed)
            except Exception as error:  # whatever it was, a watch that ends would freeze the set without a word
                known.current, failed = False, True
                if isinstance(error, Refused) and error.gone and not known.newest:
                    known.newest = True  # what changed since then is not kept: the list of now says what it came to
                else:
                    wait = self._failed(known, feed, error)
            # an end is in order after a while; one that comes at once, again and again, must not become a storm
            lasted = self._clock() - began
            usual = lasted >= BACKOFF_BASE if known.heard else lasted >= SETTLED and not failed
            failures = 0 if usual else failures + 1
            if wait or failures > 1:
                await self._sleep(max(wait, self._backoff(max(1, failures))))

    def _failed(self, known: _Known, feed: Feed, error: Exception) -> float:
        """Tell of it; the seconds that it takes at least until another try makes sense."""
        wait = BACKOFF_BASE
        if isinstance(error, Refused):
            wait = max(wait, error.wait * (1 + self._random() / 4))  # nor does everybody come back at that very second
            if error.status == 403:
                error = forbidden(error, self.namespace)
        self._watched[known.service] = f"failed: {error}"
        feed.error(error)
        return wait

    def _backoff(self, failures: int) -> float:
        most = min(BACKOFF_CAP, BACKOFF_BASE * 2.0 ** min(failures, 10))
        return BACKOFF_BASE + (most - BACKOFF_BASE) * self._random()

    # -- list

    async def _list(self, known: _Known, feed: Feed) -> None:
        """Read the whole set; it is not current yet when the feed asks for a second read."""
        selection = {"labelSelector": known.selector, "limit": str(PAGE)}
        query = dict(selection)
        if not known.version:
            query["resourceVersion"] = "0"  # whatever the server has at hand: it costs etcd nothing, and the watch mends it
        elif not known.newest:  # at hand as well, and never older than what we know
            query |= {"resourceVersion": known.version, "resourceVersionMatch": "NotOlderThan"}
        slices: dict[str, Slice] = {}
        for _ in range(PAGES):
            response = await self._api.get(self._path, query)
            read = _decoded(_decode_list, response.body, "a list of EndpointSlices")
            slices.update((each.metadata.name, each) for each in read.items or ())
            if not read.metadata.next:
                break
            query = selection | {"continue": read.metadata.next}
        else:
            raise PeerError(f"a list of EndpointSlices has more than {PAGES} pages", peer=PEER)
        version = read.metadata.resource_version
        regressed = _is_before(version, known.version)
        known.slices, known.version, known.newest = slices, version, False
        known.current = True
        self._tell(known, feed, regressed=regressed)

    def _tell(self, known: _Known, feed: Feed, *, regressed: bool = False) -> None:
        instances = instances_of(known.service, known.slices.values(), self.choice)
        self._watched[known.service] = f"{len(instances)} instances at version {known.version}"
        if feed.snapshot(instances, regressed=regressed):
            known.current, known.newest = False, True  # a suspect set is read anew, and not from what a server has at hand

    # -- watch

    async def _follow(self, known: _Known, feed: Feed) -> None:
        """Take one watch to its end, from the version that is known; nothing is missed between one and the next."""
        first, last = self._life
        query = {
            "labelSelector": known.selector,
            "watch": "1",
            "resourceVersion": known.version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(round(first + (last - first) * self._random())),
        }
        response = await self._api.get(self._path, query, stream=True)
        try:
            async with aclosing(_lines(response.body)) as lines:
                while known.current and (read := await self._next(known, lines)):
                    for line in read:
                        self._apply(known, line)
                    self._tell(known, feed)  # once for all that came: an endpoint moves between slices in two events
        finally:
            await response.close()

    async def _next(self, known: _Known, lines: AsyncIterator[list[bytes]]) -> list[bytes]:
        """The next lines; none at the end of the watch, or when it is silent for too long."""
        try:
            async with asyncio.timeout(self._silence):
                return await anext(lines, [])
        except TimeoutError:
            # Not even its version: one that is ahead of a server which lost its state would never be reached.
            known.current = known.heard
            return []

    def _apply(self, known: _Known, line: bytes) -> None:
        event = _decoded(_decode_event, line, "an event of a watch")
        if event.type == "ERROR":
            raise refusal(_decoded(_decode_status, event.object, "an error within a watch"))
        if event.type == "BOOKMARK":
            metadata = _decoded(_decode_bookmark, event.object, "a bookmark").metadata
        else:
            changed = _decoded(_decode_slice, event.object, "an EndpointSlice")
            metadata = changed.metadata
            if event.type == "DELETED":
                known.slices.pop(metadata.name, None)
            else:
                known.slices[metadata.name] = changed
        known.version = metadata.resource_version or known.version
        known.heard = True

    def describe(self) -> dict[str, object]:
        """What each watch came to last."""
        return {"backend": "kubernetes", "namespace": self.namespace, "watched": dict(self._watched)}

    def __repr__(self) -> str:
        watched = ", ".join(f"{name}: {state}" for name, state in self._watched.items())
        return f"<KubernetesResolver of {self.namespace}, {watched or 'idle'}>"


class _Known:
    """What one watch knows of its Service."""

    def __init__(self, service: str, selector: str) -> None:
        self.service = service
        self.selector = selector
        self.slices: dict[str, Slice] = {}
        self.version = ""
        """Of the slices, as the server calls it."""
        self.current = False
        """Whether a watch from there on tells everything; else they are listed anew."""
        self.newest = False
        """Whether the next list shall be what etcd has now, rather than what the server has at hand."""
        self.heard = False
        """Whether the watch said anything."""


class _ListMetadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    next: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct):
    metadata: _ListMetadata
    items: list[Slice] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Bookmark(msgspec.Struct):
    metadata: Metadata


_decode_list = msgspec.json.Decoder(_List).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_decode_slice = msgspec.json.Decoder(Slice).decode
_decode_bookmark = msgspec.json.Decoder(_Bookmark).decode
_decode_status = msgspec.json.Decoder(Status).decode


def _decoded(decode: Callable[[bytes], T], body: Body | msgspec.Raw, what: str) -> T:
    try:
        return decode(body if isinstance(body, bytes | msgspec.Raw) else b"")
    except (ValueError, RecursionError) as error:  # msgspec's, and what it lets through
        raise PeerError(f"what should be {what} does not come from Kubernetes ({error})", peer=PEER) from None


async def _lines(body: Body) -> AsyncGenerator[list[bytes], None]:
    """The whole lines of each piece that has any."""
    rest = b""
    if isinstance(body, bytes):
        yield [line for line in body.splitlines() if line]
        return
    async for piece in body:
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > LINE:
            raise PeerError(f"an event of a watch is over {LINE} bytes", peer=PEER)
        if lines := [line for line in lines if line]:
            yield lines


def _is_before(version: str, other: str) -> bool:
    """Whether it is certain that the versions went back; they are numbers in every Kubernetes there is, but need not be."""
    return version.isdigit() and other.isdigit() and int(version) < int(other)
