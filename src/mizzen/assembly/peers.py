"""Peers: for each client of a service its stack, its endpoints and the watch that keeps them true."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from mizzen.edges.http import Pool, PoolLimits
from mizzen.rules import events
from mizzen.rules.balance import Balancer, Endpoint
from mizzen.rules.breaker import Breaker, breaking, count_outcomes
from mizzen.rules.config import ClientConfig
from mizzen.rules.discovery import (
    HOLD,
    Back,
    Changed,
    EndpointStore,
    Held,
    Instance,
    Lost,
    Recalled,
    Resolver,
    StoreEvent,
)
from mizzen.rules.retry import Budget, retry
from mizzen.rules.timeouts import attempt, out_of_time
from mizzen.words.clock import Clock, Random, format_duration
from mizzen.words.context import carry, current
from mizzen.words.errors import CallError, NoInstances, Unavailable
from mizzen.words.handler import CLIENT_ORDER, Handler, Stack
from mizzen.words.message import Call, Request, Response
from mizzen.words.outcome import CANCELLED, LEAVING, LOST, OK, REFUSED, TIMEOUT, UNKNOWN, Outcome, Verdict, classify

from .client import Client
from .network import Network
from .observing import Telemetry
from .tls import usual_tls

if TYPE_CHECKING:
    from mizzen.edges.http import Tls

    from .keeping import Keeper

FIRST_SNAPSHOT = 5.0
"""Seconds that a start waits for discovery's first word on a peer; after that calls fail fast until it comes."""

VIRTUAL_AGE, VIRTUAL_SPREAD = 60.0, 0.2
"""Seconds that a connection to a name lives, and the share by which single ones differ: a name may stand for a virtual
address (a ClusterIP), behind which each connection is pinned to one instance and new instances stay idle."""

DOUBTFUL = (REFUSED, LOST, TIMEOUT, LEAVING)
"""Outcomes that let a resolver without a watch (DNS) read again before its time: the instance may be gone."""

log = logging.getLogger("mizzen.discovery")


class Peer:
    """A connected client's way to the service it names."""

    def __init__(
        self,
        client: Client,
        config: ClientConfig,
        resolver: Resolver,
        *,
        backend: str,
        network: Network,
        telemetry: Telemetry,
        clock: Clock,
        random: Random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        tls: Tls | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        """``keeper`` keeps what is known on disk."""
        self.name = client.name
        self.required = client.required if config.required is None else config.required
        self.timeout = config.timeout
        self.backend = backend
        self.explain = False
        self.failed_calls = 0
        """Calls without an answer that one can work with, whatever kept it: a 404 is an answer, an open breaker is none."""
        self.clock = clock
        self._emit = telemetry.emit
        self._telemetry = telemetry
        self._resolver = resolver
        self._network = network
        self._tls = tls
        self._max_answer = config.max_answer
        self._usual_tls: Tls | None = None
        self._sleep = sleep
        self._callers: set[str] = set()
        self._known = asyncio.Event()
        self._failed = asyncio.Event()
        """Whether a read of the registry has failed."""
        self._keeper = keeper
        self._watch: list[asyncio.Task[None]] = []
        self.budget = Budget()
        self.breaker = Breaker(
            failures=config.breaker.failures, cooldown=config.breaker.cooldown, on_change=self._breaker_changed
        )
        self.balancer = Balancer(
            self._open_pool,
            clock=clock,
            random=random,
            peer=self.name,
            detail=self._missing,
            on_eject=self._ejected,
            on_readmit=self._readmitted,
        )
        self.store = EndpointStore(
            self.name,
            clock=clock,
            on_change=self.balancer.update,
            on_event=self._told,
            answers=lambda known: self.balancer.answers(known, HOLD),
        )
        self._registry = telemetry.outages.user(
            backend,
            self.name,
            clock=clock,
            serving=lambda: len(self.store.instances),
            failed=lambda: self.failed_calls,
            doubt=self.store.doubt,
        )
        self.store.on_first(self._known.set)
        observe = _looking_again(resolver, self.name, telemetry.attempt)
        self.stack = Stack(
            CLIENT_ORDER,
            [
                ("edge", self._edge),
                ("breaker", breaking(self.breaker, peer=self.name, clock=clock)),
                (
                    "retry",
                    retry(
                        self.budget,
                        retries=config.retries,
                        clock=clock,
                        sleep=sleep,
                        random=random,
                        on_retry=self._retried,
                        on_exhausted=self._exhausted,
                    ),
                ),
                ("hedge", None),
                ("attempt", attempt(self.balancer, client.classify, clock, observe=observe)),
            ],
            _dispatch,
        )
        self.send = self.stack.handler
        """Sends one call through the whole stack; raises a :class:`CallError` that knows what it means."""
        telemetry.peer(self)

    # -- the call ----------------------------------------------------------------------------------------------

    def begin(self, idempotent: bool, timeout: float, declared: frozenset[int]) -> Call:
        """The record of a call that begins now, ended by its timeout or by the deadline of the work it is for."""
        now = self.clock()
        ends, inherited = now + timeout, False
        context = current()
        if context is not None and context.deadline is not None and context.deadline < ends:
            ends, inherited = context.deadline, True
        call = Call.of(idempotent, timeout, now, ends, inherited, declared, context)
        if self.explain:
            call.notes = []
        return call

    def _edge(self, inner: Handler) -> Handler:
        clock, observe, name, callers = self.clock, self._telemetry.call, self.name, self._callers

        async def edge(request: Request) -> Response:
            call = request.call
            if call is None:
                raise TypeError("a request without a call cannot go through a client's stack")
            parent = call.parent
            if parent is not None and parent.route:
                callers.add(parent.route)
            carry(parent, request.headers.raw)
            outcome: Outcome = CANCELLED
            try:
                if call.deadline <= call.started:  # work that nobody waits for any more is not begun
                    raise out_of_time(request, call)
                response = await inner(request)
                outcome = call.outcome or classify(request, response)
                return response
            except CallError as error:
                error.peer = error.peer or name
                error.outcome = outcome = error.outcome or classify(request, error)
                call.outcome = outcome
                raise
            except Exception:
                outcome = call.outcome or UNKNOWN
                raise
            finally:
                if outcome is not OK and outcome.breaker is not Verdict.SUCCESS and outcome is not CANCELLED:
                    self.failed_calls += 1
                observe(name, outcome.name, clock() - call.started)

        return edge

    # -- endpoints ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Watch the peer's instances from now on."""
        loop = asyncio.get_running_loop()
        self._watch = [
            loop.create_task(self._resolver.watch(self.name, self.store), name=f"watch-{self.name}"),
            loop.create_task(self._tick(), name=f"hold-{self.name}"),
        ]
        for task in self._watch:
            task.add_done_callback(self._watch_ended)
        if self._keeper is not None:
            self._watch.append(loop.create_task(self._keeper.recall(self.store, self._failed), name=f"recall-{self.name}"))

    def _watch_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():  # a driver never ends by itself: this is a defect, and the set would freeze in silence
            log.error("the watch of %s ended; its instances stay as they are", self.name, exc_info=task.exception())

    async def known(self, limit: float = FIRST_SNAPSHOT) -> bool:
        """Wait for discovery's first word on this peer, at most ``limit`` seconds."""
        try:
            async with asyncio.timeout(limit):
                await self._known.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """End the watch and close every connection that is idle; busy ones close when done."""
        for task in self._watch:
            task.cancel()
        if self._watch:
            await asyncio.wait(self._watch)
        if self._keeper is not None:
            await self._keeper.close()
        self.balancer.close()

    def check(self) -> None:
        """Raise when a call could not be made just now."""
        # Once a trial is due the check passes: an instance that stayed critical would get no call to try it with.
        if self.breaker.state == "open" and (wait := self.breaker.retry_after(self.clock())) > 0:
            raise Unavailable(f"the breaker is open: {count_outcomes(self.breaker.names)}, next trial in {wait:.0f}s")
        if not self.balancer.endpoints:
            raise Unavailable(f"no instance: {self._missing(aged=False)}")  # a check says the same while it is the same

    def report(self) -> dict[str, Any]:
        """Which registry knows this peer, and what is known from it, for everybody to see."""
        return {"registry": self.backend, **self.store.report()}

    def describe(self) -> dict[str, Any]:
        """Everything known about this peer, for people and tools."""
        return {
            "peer": self.name,
            "discovery": self.backend,
            "stack": self.stack.describe(),
            "breaker": self.breaker.describe(),
            "budget": self.budget.describe(),
            "balancer": self.balancer.describe(),
            "store": self.store.describe(),
        }

    async def _tick(self) -> None:
        while True:
            due = self.store.tick(self.clock())
            if self._keeper is not None:
                self._keeper.keep(self.store, self.clock())
            await self._sleep(1.0 if due is None else max(0.05, min(due, 1.0)))

    def _open_pool(self, instance: Instance) -> Pool:
        tls = self._tls  # where it is configured nobody may talk us out of it, a registry neither
        if instance.scheme == "https" and tls is None:
            if self._usual_tls is None:  # once: it reads every certificate of the system's store
                setting = f"clients.{self.name}.tls"
                self._usual_tls = usual_tls({part: f"{setting}.{part}" for part in ("ca", "cert", "server_name")})
            tls = self._usual_tls
        return Pool(
            instance.host,
            instance.port,
            tls=tls,
            connect=self._network.connect,
            limits=self._limits_at(instance.host),
            clock=self.clock,
            peer=self.name,
        )

    def _limits_at(self, host: str) -> PoolLimits:
        if _is_address(host):
            return PoolLimits(body=self._max_answer)
        return PoolLimits(body=self._max_answer, age=VIRTUAL_AGE, spread=VIRTUAL_SPREAD)

    def _missing(self, *, aged: bool = True) -> str:
        age = self.store.age(self.clock())
        if age is None:
            trouble = self.store.trouble  # our caller is told too
            return f"{self.backend} has not said where it is{f' ({trouble})' if trouble else ' yet'}"
        return f"{self.backend} says there is none{f'; its last word is {format_duration(age)} old' if aged else ''}"

    # -- events ------------------------------------------------------------------------------------------------

    def _breaker_changed(self, change: Any) -> None:
        self._emit(events.breaker_changed(self.name, change, tuple(sorted(self._callers))))

    def _ejected(self, endpoint: Endpoint, seconds: float) -> None:
        self._emit(events.Ejected(self.name, endpoint.instance.id, endpoint.failures, seconds))

    def _readmitted(self, endpoint: Endpoint) -> None:
        self._emit(events.Readmitted(self.name, endpoint.instance.id))

    def _told(self, event: StoreEvent) -> None:
        match event:
            case Changed():
                self._emit(events.SnapshotChanged(self.name, event.added, event.removed, event.total))
            case Held():
                self._emit(events.SnapshotHeld(self.name, event.known, event.offered, event.seconds))
            case Recalled():
                self._emit(events.SnapshotRecalled(self.name, self.backend, event.total, event.age))
            case Lost():  # that the registry knows nobody of that name is about this peer alone
                error = f"{type(event.error).__name__}: {event.error}"
                self._registry.lost(error, alone=isinstance(event.error, NoInstances))
                self._failed.set()
            case Back():
                self._registry.back()

    def _retried(self, request: Request, outcome: Outcome, attempts: int) -> None:
        self._telemetry.retried(self.name, outcome.name)

    def _exhausted(self, request: Request, outcome: Outcome) -> None:
        self._emit(events.BudgetExhausted(self.name))


def _dispatch(request: Request) -> Awaitable[Response]:
    call = request.call
    if call is None or call.endpoint is None:
        raise TypeError("a request reaches a connection pool through an attempt alone")
    answer: Awaitable[Response] = call.endpoint.send(request)
    return answer


def _looking_again(
    resolver: Resolver, service: str, observe: Callable[[Request, Outcome, float], None]
) -> Callable[[Request, Outcome, float], None]:
    """``observe``, and a hint to the resolver that takes hints, which limits how often it reads because of them."""
    refresh: Callable[[str], None] | None = getattr(resolver, "refresh", None)
    if refresh is None:
        return observe

    def observed(request: Request, outcome: Outcome, seconds: float) -> None:
        observe(request, outcome, seconds)
        if outcome is not OK and outcome in DOUBTFUL:
            refresh(service)

    return observed


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
