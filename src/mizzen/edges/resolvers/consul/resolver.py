"""Consul, read: one blocking query per service, https://developer.hashicorp.com/consul/api-docs/features/blocking."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import msgspec

from mizzen.rules.discovery import Feed, Instance, is_host
from mizzen.words.clock import Clock, Random, monotonic
from mizzen.words.errors import PeerError
from mizzen.words.handler import Handler
from mizzen.words.message import Response

from .agent import PEER, TIMEOUT, Agent, filtered, refused, segment

WAIT = 60.0
"""Seconds that the agent holds a query while nothing changes: a watch that died silently is found out in that time."""
WAIT_MARGIN = 5.0
"""Seconds on top of ``wait`` and the sixteenth of it that agents add at random; clients that gave less (kratos,
go-micro) saw an error for every quiet minute."""
BACKOFF_BASE, BACKOFF_CAP, BACKOFF_FLOOR = 0.5, 15.0, 0.1
"""Seconds, full jitter. Consul's own client goes up to 180 s, which is an outage to whoever calls."""
AT_ONCE = 64
"""Reads that do not block, at one time: a thousand watches that begin together would each wait longer than ``TIMEOUT``."""
BURST, REFILL = 5, 0.5
"""Reads at once, then seconds for each further one: enough to follow a rolling restart, and a bound on the load
of an index that never rests."""
CONTACT = 30_000
"""Milliseconds without a word from the leader from which on an answer is told as degraded; usual are some 50."""


class ConsulResolver:
    """Reads the passing instances of a service from a Consul agent. Holds no policy: errors and sets go to the feed.

    ``wait`` and ``margin`` in seconds; ``tag`` takes only instances that carry it, ``dc`` reads another datacenter.
    """

    def __init__(
        self,
        call: Handler,
        *,
        token: Callable[[], str | None],
        sleep: Callable[[float], Awaitable[None]],
        random: Random,
        wait: float = WAIT,
        margin: float = WAIT_MARGIN,
        dc: str | None = None,
        tag: str | None = None,
        clock: Clock = monotonic,
    ) -> None:
        self._agent = Agent(call, token=token, clock=clock)
        self._sleep = sleep
        self._random = random
        self._clock = clock
        self._wait = wait
        self._margin = margin
        # stale: any server may answer, so that reading works while Consul has no leader
        self._query = {"passing": "1", "stale": "1"} | ({"dc": dc} if dc else {}) | ({"tag": tag} if tag else {})
        self._watched: dict[str, str] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def watch(self, service: str, feed: Feed) -> None:
        """Feed every change of ``service`` until cancelled; errors go to the feed, then it tries again for ever."""
        index = seen = failures = 0
        known: set[str] = set()
        pace = _Pace(self._clock, self._sleep)
        while True:
            await pace.wait()
            try:
                read = await self._read(service, index)
                if index and not known.issubset(instance.id for instance in read.instances):
                    # an answer that was waited for never says what was left out of it for want of rights
                    read = await self._read(service, 0)
            except Exception as error:  # whatever it was, a watch that ends would freeze the set without a word
                failures += 1
                index = 0  # so that the next answer comes at once: it tells that the registry is back
                self._watched[service] = f"failed {failures} times: {error}"
                feed.error(error)
                await self._sleep(self._backoff(failures))
                continue
            failures = 0
            known = {instance.id for instance in read.instances}
            regressed = read.index < seen
            seen = read.index
            self._watched[service] = f"{len(read.instances)} instances at index {seen}{read.degraded}"
            # one that knows no leader may have just begun, and not know yet what it misses
            again = feed.snapshot(read.instances, regressed=regressed or read.leaderless)
            # an index that went back, and a set that is suspect, are read anew without waiting for a change;
            # 0 would never block, so 1 stands for "nothing yet"
            index = 0 if again or regressed else max(1, seen)

    async def _read(self, service: str, index: int) -> _Read:
        path = f"/v1/health/service/{segment(service)}"
        if not index:
            async with self._turns:
                return _parse(await self._agent.get(path, query=self._query, timeout=TIMEOUT), service)
        query = self._query | {"index": str(index), "wait": f"{round(self._wait * 1000)}ms"}
        return _parse(await self._agent.get(path, query=query, timeout=self._wait * 17 / 16 + self._margin), service)

    def _backoff(self, failures: int) -> float:
        most = min(BACKOFF_CAP, BACKOFF_BASE * 2.0 ** min(failures - 1, 10))
        return max(BACKOFF_FLOOR, most * self._random())

    def describe(self) -> dict[str, object]:
        """What each watch came to last."""
        return {"backend": "consul", "wait_s": self._wait, "watched": dict(self._watched)}

    def __repr__(self) -> str:
        return f"<ConsulResolver {', '.join(f'{name}: {state}' for name, state in self._watched.items()) or 'idle'}>"


class _Read(msgspec.Struct, frozen=True):
    index: int
    instances: list[Instance]
    leaderless: bool
    degraded: str


class _Pace:
    """Lets a burst through, then one read per ``REFILL`` seconds."""

    def __init__(self, clock: Clock, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._clock = clock
        self._sleep = sleep
        self._ready = clock() - BURST * REFILL

    async def wait(self) -> None:
        now = self._clock()
        self._ready = max(self._ready, now - BURST * REFILL) + REFILL
        if self._ready > now:
            await self._sleep(self._ready - now)


# -- what the agent says; only what is used, every part may be null


class _Node(msgspec.Struct, rename="pascal"):
    address: str = ""
    node: str = ""


class _Weights(msgspec.Struct, rename="pascal"):
    passing: int = 1


class _Port(msgspec.Struct, rename="pascal"):
    port: int
    default: bool = False


class _Service(msgspec.Struct, rename="pascal"):
    id: str = msgspec.field(name="ID")
    address: str = ""
    port: int = 0
    ports: list[_Port] | None = None  # Consul >= 1.22, instead of Port
    kind: str = ""
    tags: list[str] | None = None
    meta: dict[str, str] | None = None
    weights: _Weights | None = None
    modify_index: int = 0


class _Entry(msgspec.Struct, rename="pascal"):
    node: _Node
    service: _Service


_decode = msgspec.json.Decoder(list[_Entry] | None).decode


def _parse(response: Response, service: str) -> _Read:
    """The instances in an answer; ``PeerError`` when it is not one that may be believed."""
    doing = f"a look-up of {service}"
    if response.status != 200:
        raise refused(response, doing)
    if filtered(response):
        # what the token may not see is missing without a word: an empty set here means nothing
        raise PeerError(
            f"consul left out what this token may not read of {service} (it needs service:read and node:read)", peer=PEER
        )
    try:
        index = int(response.headers["x-consul-index"])
        entries = _decode(response.body if isinstance(response.body, bytes) else b"")
    except (KeyError, ValueError, RecursionError) as error:  # msgspec's are ValueErrors
        raise PeerError(f"the answer to {doing} does not come from Consul ({error})", peer=PEER) from None
    return _Read(index, _instances(service, entries or ()), _leaderless(response), _degraded(response))


def _leaderless(response: Response) -> bool:
    # answers by way of the agent's stream do not know: they have no such header, or always "false" (1.19)
    streamed = (response.headers.get("x-consul-query-backend") or "").lower() == "streaming"
    return not streamed and (response.headers.get("x-consul-knownleader") or "").lower() == "false"


def _degraded(response: Response) -> str:
    """What a server that answers without its leader says of that, for people."""
    if _leaderless(response):
        return ", degraded: consul has no leader"
    contact = response.headers.get("x-consul-lastcontact") or ""
    if contact.isdigit() and int(contact) > CONTACT:
        return f", degraded: no contact with consul's leader for {int(contact) // 1000}s"
    return ""


def _instances(service: str, entries: Iterable[_Entry]) -> list[Instance]:
    # by (our) id the newest registration wins: an agent behind a load balancer leaves one life on two nodes
    found: dict[str, tuple[int, Instance]] = {}
    for entry in entries:
        said = entry.service
        host = said.address or entry.node.address
        port = said.port or next((p.port for p in sorted(said.ports or (), key=lambda p: not p.default)), 0)
        if said.kind or not 0 < port < 65536 or not is_host(host):  # proxies and gateways are not instances
            continue
        meta = dict(said.meta or {})
        # Consul's ids are unique per node only, and default to the service's name; ours are unique by design
        id = said.id if "boot" in meta else f"{said.id}@{entry.node.node}"
        instance = Instance(
            id=id,
            service=service,
            host=host,
            port=port,
            scheme=meta.pop("scheme", "http").lower(),  # HTTPS must not be taken for anything less
            version=meta.pop("version", ""),
            zone=meta.pop("zone", ""),
            weight=max(1, said.weights.passing) if said.weights else 1,
            meta=meta,
            tags=tuple(said.tags or ()),
        )
        if id not in found or found[id][0] <= said.modify_index:
            found[id] = (said.modify_index, instance)
    return [instance for _, instance in found.values()]
