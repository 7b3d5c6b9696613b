"""A call through the client's whole stack, over the in-memory network and in virtual time: what its caller sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from stage import Played, Stage, now, settle, stage

from mizzen.edges.resolvers import NoneResolver
from mizzen.rules.config import BreakerConfig, ClientConfig
from mizzen.rules.events import BreakerChanged, BudgetExhausted, Ejected, Readmitted, RegistryBack, RegistryLost
from mizzen.tools.testing.virtual import run
from mizzen.words.context import Context, current, enter
from mizzen.words.errors import (
    BreakerOpen,
    CallError,
    CallTimeout,
    ConnectFailed,
    ConnectionLost,
    NoInstances,
    PeerError,
    Unavailable,
)
from mizzen.words.message import Headers, Request, Response
from mizzen.words.outcome import MISFIT, OK, TABLE, UNAVAILABLE, Outcome, classify

GET: dict[str, Any] = {}


def problem(status: int, **headers: str) -> Response:
    fields = {"content-type": "application/problem+json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return Response(status, b'{"detail":"because"}', headers=fields)


async def failing(call: Awaitable[Any]) -> CallError:
    """The error of a call that must fail."""
    with pytest.raises(CallError) as raised:
        await call
    return raised.value


def one_after_another(count: int) -> range:
    return range(count)


async def hang(_: Request) -> Response:
    await asyncio.Event().wait()
    raise AssertionError


# -- the breaker


def test_exactly_five_failed_calls_open_the_breaker_and_one_trial_closes_it() -> None:
    """The sixth call is refused without a connection; after 30 s one trial goes out, whose success lets all calls out."""

    async def main() -> None:
        async with stage([500]) as site:
            [user] = site.played
            for number in range(5):
                error = await failing(site.client.get("/users/7"))
                assert isinstance(error, PeerError)
                assert len(user.requests) == number + 1
            assert site.peer.breaker.state == "open"
            opened = now()
            for wait in (0.0, 10.0, 19.9):
                await asyncio.sleep(wait)
                refused = await failing(site.client.get("/users/7"))
                assert isinstance(refused, BreakerOpen)
                assert refused.retry_after == pytest.approx(30 - (now() - opened))
                assert "5 calls failed (5 server_error); next trial in" in refused.detail
            assert len(user.requests) == 5
            user.script = [200]
            await asyncio.sleep(0.2)
            assert (await site.client.get("/users/7")).status == 200
            assert site.peer.breaker.state == "closed"
            assert (await site.client.get("/users/7")).status == 200
        changes = [(event.state, event.failures) for event in site.told(BreakerChanged)]
        assert changes == [("open", {"server_error": 5}), ("half_open", {}), ("closed", {})]

    run(main())


def test_a_refused_peer_is_left_alone_without_a_connection() -> None:
    """Refused connections count like failed answers: after five calls nobody even connects."""

    async def main() -> None:
        async with stage([200]) as site:
            connects: list[float] = []
            connect = site.network.connect

            async def counting(*arguments: Any) -> Any:
                connects.append(now())
                return await connect(*arguments)

            site.network.connect = counting  # type: ignore[method-assign]
            site.peer.balancer.update(())
            site.peer.balancer.update(site.peer.store.instances)  # pools take the connector when they are made
            site.network.refuse(site.played[0].host, 80)
            for _ in range(5):
                assert isinstance(await failing(site.client.get("/")), ConnectFailed)
            made = len(connects)
            assert made == 15  # each call: once, and two retries
            assert isinstance(await failing(site.client.get("/")), BreakerOpen)
            assert len(connects) == made

    run(main())


def test_a_trial_that_fails_opens_the_breaker_again() -> None:
    """One call alone pays for the question whether the peer is back; a second one meanwhile is refused."""

    async def main() -> None:
        async with stage([500]) as site:
            [user] = site.played
            for _ in range(5):
                await failing(site.client.get("/"))
            await asyncio.sleep(30)
            user.script = hang
            trial = asyncio.ensure_future(failing(site.client.get("/")))
            await asyncio.sleep(1)
            beside = await failing(site.client.get("/"))
            assert isinstance(beside, BreakerOpen)
            assert "a trial call is under way" in beside.detail
            assert isinstance(await trial, CallTimeout)
            assert site.peer.breaker.state == "open"
            assert isinstance(await failing(site.client.get("/")), BreakerOpen)

    run(main())


def test_a_trial_that_says_nothing_gives_its_lease_back() -> None:
    """A trial whose caller gives up is neither success nor failure: the next call is the trial."""

    async def main() -> None:
        async with stage([500]) as site:
            [user] = site.played
            for _ in range(5):
                await failing(site.client.get("/"))
            await asyncio.sleep(30)
            user.script = hang
            trial = asyncio.ensure_future(site.client.get("/"))
            await asyncio.sleep(0.5)
            trial.cancel()
            await asyncio.wait([trial])
            assert site.peer.breaker.state == "half_open"
            user.script = [200]
            assert (await site.client.get("/")).status == 200
            assert site.peer.breaker.state == "closed"

    run(main())


def test_a_404_between_failures_resets_the_count() -> None:
    """Only failures in a row count: a peer that answers at all lives."""

    async def main() -> None:
        async with stage([500, 500, 500, 500, 404, 500, 500, 500, 500, 500, 200]) as site:
            for _ in range(10):
                assert isinstance(await failing(site.client.get("/")), PeerError)
            assert isinstance(await failing(site.client.get("/")), BreakerOpen)
            assert site.asked == 10

    run(main())


def test_what_is_neutral_neither_counts_nor_resets() -> None:
    """A 429 says nothing about whether the peer lives."""

    async def main() -> None:
        async with stage([500, 500, 500, 500, 429, 500, 200]) as site:
            for _ in range(6):
                assert isinstance(await failing(site.client.get("/")), PeerError)
            assert isinstance(await failing(site.client.get("/")), BreakerOpen)

    run(main())


def test_a_retry_that_succeeds_is_a_success() -> None:
    """The breaker sees calls and not attempts: a peer that needs a second try is no failing peer."""

    async def main() -> None:
        async with stage([503, 200] * 20) as site:
            for _ in range(20):
                user = site.played[0]
                user.script = [200] if len(user.requests) % 2 else [503] * (len(user.requests) + 1) + [200]
                assert (await site.client.get("/")).status == 200
            assert site.peer.breaker.count == 0

    run(main())


def test_the_breaker_is_configured() -> None:
    """Threshold and cooldown are the client's own."""

    async def main() -> None:
        config = ClientConfig(breaker=BreakerConfig(failures=2, cooldown=3.0))
        async with stage([500, 500, 200], config=config) as site:
            for _ in range(2):
                await failing(site.client.get("/"))
            assert isinstance(await failing(site.client.get("/")), BreakerOpen)
            await asyncio.sleep(3)
            assert (await site.client.get("/")).status == 200

    run(main())


def test_the_breaker_tells_what_it_affects() -> None:
    """The event names our own routes that call the peer."""

    async def main() -> None:
        async with stage([500]) as site:

            async def get() -> str:
                await site.client.get("/users/7")
                return ""

            async with site.in_front(get) as order:
                for _ in range(5):
                    assert (await order.send(Request("GET", "/"))).status == 502
        [opened] = site.told(BreakerChanged)
        assert opened.affects == ("GET /",)
        assert "affects GET /" in opened.text()

    run(main())


# -- health of a peer, as /health asks for it


def test_the_check_of_a_peer_follows_breaker_and_instances() -> None:
    """It fails while calls are refused and while nobody is known, with the reason; a due trial lets it pass."""

    async def main() -> None:
        async with stage([500]) as site:
            site.peer.check()
            for _ in range(5):
                await failing(site.client.get("/"))
            with pytest.raises(Unavailable, match=r"the breaker is open: 5 calls failed \(5 server_error\), next trial in 30s"):
                site.peer.check()
            await asyncio.sleep(30)
            # An instance that stays critical is taken out of its registry, and would never be called again to find out.
            site.peer.check()
            assert site.peer.breaker.state == "open"
            site.peer.balancer.update(())
            with pytest.raises(Unavailable, match=r"no instance: static says there is none$"):
                site.peer.check()

    run(main())


# -- retries


@pytest.mark.parametrize(
    ("method", "options", "attempts"),
    [
        ("GET", {}, 3),
        ("HEAD", {}, 3),
        ("OPTIONS", {}, 3),
        ("POST", {"body": {}}, 1),
        ("PUT", {"body": {}}, 1),
        ("DELETE", {}, 1),
        ("POST", {"body": {}, "idempotent": True}, 3),
        ("POST", {"body": {}, "headers": {"Idempotency-Key": "k"}}, 3),
        ("GET", {"idempotent": False}, 1),
    ],
)
def test_only_what_is_idempotent_is_retried_and_twice_at_most(method: str, options: dict[str, Any], attempts: int) -> None:
    """A 503 is tried three times in all where that is safe, once where a handler may have acted."""

    async def main() -> None:
        async with stage([503]) as site:
            error = await failing(site.client.call(method, "/users", **options))
            assert isinstance(error, PeerError)
            assert site.asked == attempts
            assert set(site.played[0].bodies) == ({b"{}"} if "body" in options else {b""})
            assert site.peer.breaker.count == 1

    run(main())


def test_retries_wait_a_little_and_differ() -> None:
    """Between 25 and 250 ms pass before another attempt, never the same for everybody."""

    async def gaps(seed: int) -> list[float]:
        async with stage([503], seed=seed) as site:
            await failing(site.client.get("/"))
            times = site.played[0].times
            return [times[1] - times[0], times[2] - times[1]]

    every = [run(gaps(seed)) for seed in range(10)]
    assert all(0.025 <= gap <= 0.25 for pair in every for gap in pair)
    assert len({round(gap, 6) for pair in every for gap in pair}) > 10


def test_another_instance_is_tried_first() -> None:
    """With several instances known no attempt of a call goes to one that failed it."""

    async def main() -> None:
        async with stage([503], [503], [200]) as site:
            for _ in range(3):
                assert (await site.client.get("/")).status == 200
            assert len(site.played[2].requests) == 3

    run(main())


def test_the_number_of_retries_is_configured() -> None:
    """None at all is allowed."""

    async def main() -> None:
        async with stage([503], config=ClientConfig(retries=0)) as site:
            await failing(site.client.get("/"))
            assert site.asked == 1

    run(main())


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_reached_no_handler_goes_elsewhere_whatever_the_method(method: str) -> None:
    """A refused connection sent nothing: another instance gets even a POST, once."""

    async def main() -> None:
        async with stage([200], [200]) as site:
            site.network.refuse(site.played[0].host, 80)
            for _ in range(10):
                assert (await site.client.call(method, "/users")).status == 200
            assert [len(played.requests) for played in site.played] == [0, 10]

    run(main())


@pytest.mark.parametrize("reason", ["shed", "starting", "draining"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_was_rejected_before_any_work_goes_elsewhere_whatever_the_method(method: str, reason: str) -> None:
    """A Mizzen peer that refuses before any work is not asked to do it: another instance is."""

    async def main() -> None:
        rejected = problem(503, x_rejected=reason, retry_after="0")
        async with stage([rejected], [200]) as site:
            for _ in range(10):
                assert (await site.client.call(method, "/users")).status == 200
            assert len(site.played[1].requests) == 10
            assert site.peer.breaker.count == 0
            if reason != "shed":  # it leaves, so it is left out for a second, and blamed for nothing
                assert len(site.played[0].requests) == 1
                assert site.peer.balancer.endpoints[0].failures == 0
                assert site.peer.balancer.states()["leaving"] == 1
                await asyncio.sleep(1.1)
                await site.client.call(method, "/users")
                assert site.peer.balancer.states()["leaving"] == 0

    run(main())


def test_a_peer_that_rejects_everywhere_is_asked_three_times() -> None:
    """A POST that every instance sheds ends with what the last one said, and counts once at the breaker."""

    async def main() -> None:
        async with stage([problem(503, x_rejected="shed")], [problem(503, x_rejected="shed")]) as site:
            error = await failing(site.client.post("/users"))
            assert isinstance(error, PeerError)
            assert (error.status, error.headers["x-rejected"]) == (503, "shed")
            assert site.asked == 3
            assert site.peer.breaker.count == 1
            assert [endpoint.failures for endpoint in site.peer.balancer.endpoints] == [0, 0]

    run(main())


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_what_a_lower_tier_has_retried_is_not_retried_again(status: int) -> None:
    """`x-should-retry: false` ends it after one attempt, and blames no instance."""

    async def main() -> None:
        async with stage([problem(status, x_should_retry="false")], [200]) as site:
            errors = 0
            for _ in range(20):
                try:
                    await site.client.get("/")
                except PeerError:
                    errors += 1
            assert errors == len(site.played[0].requests)
            assert errors > 0
            assert site.asked == 20
            assert site.peer.balancer.endpoints[0].failures == 0

    run(main())


def test_a_429_is_tried_again_when_its_time_comes_within_the_call() -> None:
    """A Retry-After that fits is waited for; one that does not leaves the 429 standing at once."""

    async def main() -> None:
        async with stage([problem(429, retry_after="1"), 200]) as site:
            assert (await site.client.get("/")).status == 200
            assert 1 <= site.played[0].times[1] - site.played[0].times[0] <= 1.25
        async with stage([problem(429, retry_after="2")]) as site:
            began = now()
            error = await failing(site.client.get("/"))
            assert isinstance(error, PeerError)
            assert (error.status, site.asked, now() - began) == (429, 1, 0)

    run(main())


def test_a_body_that_was_begun_is_never_sent_again() -> None:
    """A streamed request is sent once, even if it is idempotent: its beginning is gone."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    async def main() -> None:
        async with stage([503]) as site:
            await failing(site.client.put("/photo", body=pieces(), idempotent=True))
            assert site.asked == 1
            assert site.played[0].bodies == [b"ab"]

    run(main())


def test_a_body_that_was_not_begun_goes_elsewhere() -> None:
    """A refused connection took nothing of the body: another instance gets all of it."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    async def main() -> None:
        async with stage([200], [200]) as site:
            site.network.refuse(site.played[0].host, 80)
            for _ in range(5):
                await site.client.post("/photo", body=pieces())
            assert site.played[1].bodies == [b"ab"] * 5

    run(main())


def test_the_budget_bounds_retries_in_an_outage() -> None:
    """However bad it is, retries are at most a fifth of the calls and ten per second on top; that is told once."""

    async def main() -> None:
        config = ClientConfig(breaker=BreakerConfig(failures=10**6))
        async with stage([503], config=config) as site:
            calls, rate, seconds = 0, 100, 30
            for _ in range(seconds):
                together = [asyncio.ensure_future(failing(site.client.get("/"))) for _ in range(rate)]
                calls += rate
                await asyncio.sleep(1)
                await asyncio.gather(*together)
            retries = site.asked - calls
            assert retries <= 0.2 * calls + 10 * (seconds + 10)
            assert retries >= 0.2 * calls
            assert len(site.told(BudgetExhausted)) == 1

    run(main())


# -- instances


def test_an_instance_that_fails_is_ejected_and_let_back_in_by_one_trial() -> None:
    """Five failed attempts in a row eject it, nobody's GET fails meanwhile, and one success brings it back."""

    async def main() -> None:
        async with stage([503], [0.2], [0.2]) as site:
            bad = site.played[0]

            async def burst() -> int:
                """Many calls at once, so that the failing one gets its share; how many of them reached it."""
                before = len(bad.requests)
                answers = await asyncio.gather(*(site.client.get("/") for _ in range(200)))
                assert {answer.status for answer in answers} == {200}
                return len(bad.requests) - before

            assert await burst() >= 5
            [ejected] = site.told(Ejected)
            assert ejected.instance == bad.id
            assert ejected.failures == 5
            assert 4 <= ejected.seconds <= 5
            assert await burst() == 0
            await asyncio.sleep(5)
            assert await burst() == 1  # the trial failed, and its call was answered by another
            assert await burst() == 0
            bad.script = [0.2]
            await asyncio.sleep(10)
            assert await burst() >= 1
            assert [event.instance for event in site.told(Readmitted)] == [bad.id]
            assert await burst() > 20
            assert site.peer.breaker.count == 0

    run(main())


def test_a_hung_instance_costs_no_get_and_half_of_a_calls_time_at_most() -> None:
    """The attempt that meets it ends after half of the call's time, and another instance answers in the rest."""

    async def main() -> None:
        async with stage(hang, [200], [200]) as site:
            slowest = 0.0
            for _ in range(100):
                began = now()
                assert (await site.client.get("/")).status == 200
                slowest = max(slowest, now() - began)
            assert 1.0 <= slowest <= 1.3
            assert site.played[0].cancelled == len(site.played[0].requests) <= 5

    run(main())


def test_a_post_that_a_hung_instance_took_is_not_sent_again() -> None:
    """It may have been done: the caller learns that it does not know, after all of the call's time."""

    async def main() -> None:
        async with stage(hang, [200]) as site:
            site.network.refuse(site.played[1].host, 80)
            error = await failing(site.client.post("/users"))
            assert isinstance(error, CallTimeout)
            assert (error.limit, site.asked) == ("call", 1)
            assert now() >= 1.9

    run(main())


def test_instances_come_and_go_between_calls() -> None:
    """A new snapshot is used from the next call on, and connections to who is gone are closed."""

    async def main() -> None:
        async with stage([200], [200]) as site:
            first, second = site.played
            site.peer.balancer.update([first.instance])
            await site.client.get("/")
            assert site.network.describe()["connections"] == 1
            site.peer.balancer.update([second.instance])
            await settle()
            assert site.network.describe()["connections"] == 0
            await site.client.get("/")
            assert [len(played.requests) for played in site.played] == [1, 1]

    run(main())


def test_nobody_known_is_an_error_that_says_what_discovery_knows() -> None:
    """A call without instances fails at once, and neither breaker nor budget hold it against the peer."""

    async def main() -> None:
        async with stage() as site:
            error = await failing(site.client.get("/users/7"))
            assert isinstance(error, NoInstances)
            assert error.detail == "no instance of user: static says there is none; its last word is 0ms old"
            assert site.peer.breaker.count == 0

    run(main())


def test_nobody_known_yet_says_why() -> None:
    """Before discovery has answered, the error has its last failure in it."""

    async def main() -> None:
        async with stage() as site:
            site.peer._resolver = NoneResolver()
            site.peer.store._read_at = None
            site.peer.start()
            await settle()
            error = await failing(site.client.get("/"))
            assert error.detail.startswith("no instance of user: static has not said where it is (nothing resolves user")
            assert [type(event) for event in site.events if isinstance(event, RegistryLost | RegistryBack)] == [RegistryLost]

    run(main())


def test_a_registry_that_is_back_tells_what_its_absence_cost() -> None:
    """The line counts the calls that failed meanwhile, and not those before."""

    async def main() -> None:
        async with stage() as site:
            await failing(site.client.get("/"))
            site.peer.store.error(OSError("refused"))
            for _ in range(2):
                await failing(site.client.get("/"))
            site.peer.store.snapshot(())
            assert [back.failed_calls for back in site.told(RegistryBack)] == [2]

    run(main())


# -- time


@pytest.mark.parametrize(("method", "said"), [("GET", [1000, 500, 500]), ("POST", [2000])])
def test_a_peer_is_told_how_long_each_attempt_has(method: str, said: list[int]) -> None:
    """An attempt that another may follow gets half of what is left, the last one all; the peer is told that."""

    async def main() -> None:
        async with stage(hang) as site:
            await failing(site.client.call(method, "/"))
            assert now() == pytest.approx(2.0)
            told = site.played[0].timeouts
            assert len(told) == len(said)
            assert told[0] == said[0]
            assert told == [pytest.approx(expected, abs=260) for expected in said]
            assert sum(told[:1]) <= 2000

    run(main())


def test_a_call_works_in_the_time_of_the_request_it_is_for() -> None:
    """The deadline of the work under way ends the call when that is sooner, and the peer is told what is left of it."""

    async def main() -> None:
        async with stage(hang) as site:
            enter(Context(deadline=now() + 0.3, clock=now))
            error = await failing(site.client.post("/"))
            assert isinstance(error, CallTimeout)
            assert (error.limit, error.short, now()) == ("deadline", True, pytest.approx(0.3))
            assert site.played[0].timeouts == [300]
            assert site.peer.breaker.count == 0  # it had less than half of its time: that proves nothing
            enter(Context(deadline=now() + 1.5, clock=now))
            error = await failing(site.client.post("/"))
            assert isinstance(error, CallTimeout)
            assert (error.limit, error.short) == ("deadline", False)
            assert site.peer.breaker.count == 1

    run(main())


def test_a_call_with_no_time_left_is_not_sent() -> None:
    """Work that nobody waits for is not begun."""

    async def main() -> None:
        async with stage([200]) as site:
            enter(Context(deadline=now() - 0.001, clock=now))
            error = await failing(site.client.get("/"))
            assert isinstance(error, CallTimeout)
            assert "was not sent to user" in error.detail
            assert site.asked == 0
            assert site.network.describe()["connections"] == 0

    run(main())


def test_the_context_goes_with_the_call_as_a_child() -> None:
    """The peer sees our trace with a span of its own, and our baggage; our own context stays as it was."""

    async def main() -> None:
        async with stage([200]) as site:
            mine = Context("0af7651916cd43dd8448eb211c80319c", clock=now, baggage="tenant=north", tracestate="a=b")
            enter(mine)
            await site.client.get("/", headers={"x-own": "1"})
            [request] = site.played[0].requests
            version, trace, span, flags = request.headers["traceparent"].split("-")
            assert (version, trace, flags) == ("00", mine.trace_id, "01")
            assert span != mine.span_id
            assert request.headers.get("tracestate") == "a=b"
            assert request.headers.get("baggage") == "tenant=north"
            assert request.headers.get("x-own") == "1"
            assert current() is mine

    run(main())


def test_headers_that_are_handed_on_do_not_carry_another_context() -> None:
    """Whoever forwards all of a request's headers forwards neither its trace nor its deadline beside our own."""

    async def main() -> None:
        async with stage([200]) as site:
            forwarded = {
                "traceparent": "00-11111111111111111111111111111111-2222222222222222-01", "tracestate": "old=1",
                "x-request-timeout-ms": "99000", "x-envoy-expected-rq-timeout-ms": "99000", "baggage": "theirs=1", "x-own": "1",
            }  # fmt: skip
            enter(Context("0af7651916cd43dd8448eb211c80319c", clock=now))
            await site.client.get("/", headers=forwarded)
            enter(Context("0af7651916cd43dd8448eb211c80319c", clock=now, baggage="ours=1"))
            await site.client.get("/", headers=forwarded)
            first, second = (request.headers for request in site.played[0].requests)
            for headers in (first, second):
                assert headers.all("x-request-timeout-ms") == ["1000"]
                assert headers.get("x-envoy-expected-rq-timeout-ms") is None
                assert headers.get("tracestate") is None
                [parent] = headers.all("traceparent")
                assert parent.startswith("00-0af7651916cd43dd8448eb211c80319c-")
                assert headers.get("x-own") == "1"
            assert (first.all("baggage"), second.all("baggage")) == (["theirs=1"], ["ours=1"])

    run(main())


def test_a_call_without_a_request_begins_a_trace() -> None:
    """A call from a background task is traced too, each one for itself."""

    async def main() -> None:
        async with stage([200]) as site:
            await site.client.get("/")
            await site.client.get("/")
            traces = [request.headers["traceparent"].split("-")[1] for request in site.played[0].requests]
            assert len(set(traces)) == 2

    run(main())


@pytest.mark.parametrize("at", [0.0, 0.0005, 0.001, 0.0015, 0.1, 0.5, 0.9999, 1.0, 1.01, 1.05, 1.2])
def test_a_cancelled_call_leaves_nothing_behind(at: float) -> None:
    """At whatever moment its caller gives up: no task, no timer, no connection, no attempt in flight, no handler at work."""

    async def main() -> None:
        async with stage(hang, hang) as site:
            for played in site.played:
                site.network.delay(played.host, 80, 0.0005)
            call = asyncio.ensure_future(site.client.get("/"))
            await asyncio.sleep(at)
            call.cancel()
            await asyncio.wait([call])
            assert call.cancelled()
            assert site.timers() == [] or all("_tell_peer" in repr(timer) or "_pump" in repr(timer) for timer in site.timers())
            await asyncio.sleep(0.01)
            assert site.timers() == []
            assert site.network.describe()["connections"] == 0
            assert [endpoint.in_flight for endpoint in site.peer.balancer.endpoints] == [0, 0]
            assert all(played.cancelled == len(played.requests) for played in site.played)
            assert site.peer.failed_calls == 0
            assert site.peer.breaker.count == 0

    run(main())


def test_a_cancelled_call_does_not_take_its_neighbour_with_it() -> None:
    """Calls that share a pool end on their own."""

    async def main() -> None:
        async with stage([0.5]) as site:
            first, second = (asyncio.ensure_future(site.client.get("/")) for _ in range(2))
            await asyncio.sleep(0.1)
            first.cancel()
            await asyncio.wait([first])
            assert (await second).status == 200

    run(main())


def test_asyncios_own_timeout_works_around_a_call() -> None:
    """A caller's `asyncio.timeout` ends a call with its own TimeoutError, also in the turn in which the call's ends."""

    async def main() -> None:
        async with stage(hang) as site:
            for seconds in (0.3, 1.0, 1.999):
                began = now()
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await site.client.get("/")
                assert now() - began == pytest.approx(seconds)
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0

    run(main())


# -- streams


def streaming(pieces: int, every: float, *, then: str = "end") -> Callable[[Request], Awaitable[Response]]:
    async def handler(request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            for number in range(pieces):
                yield b"%d" % number
                await asyncio.sleep(every)
            if then == "break":
                raise RuntimeError("the peer's own defect")

        return Response(200, body())

    return handler


def test_a_stream_may_take_longer_than_its_call() -> None:
    """The time of a call is until the head of its answer: a body of ten seconds arrives whole."""

    async def main() -> None:
        async with stage(streaming(10, 1.0)) as site:
            async with site.client.stream("GET", "/log") as response:
                assert now() == pytest.approx(0)
                assert site.peer.balancer.endpoints[0].in_flight == 0
                assert not isinstance(response.body, bytes)
                arrived = [(round(now()), piece) async for piece in response.body]
            assert arrived == [(number, b"%d" % number) for number in range(10)]
            assert site.peer.breaker.count == 0

    run(main())


def test_a_stream_whose_head_does_not_come_is_a_timeout() -> None:
    """Until the head a stream is a call like any other: attempts, retries and the time of the call."""

    async def main() -> None:
        async with stage(hang) as site:
            with pytest.raises(CallTimeout):
                async with site.client.stream("GET", "/log"):
                    raise AssertionError("not entered")
            assert now() == pytest.approx(2.0)
            assert site.asked == 3

    run(main())


def test_a_stream_that_is_refused_is_tried_elsewhere() -> None:
    """Before its head is handed over a stream may go to another instance."""

    async def main() -> None:
        async with stage([503], [200]) as site:
            for _ in range(5):
                async with site.client.stream("GET", "/log") as response:
                    assert await response.read() == b"{}"

    run(main())


def test_a_stream_that_breaks_is_an_error_of_its_reader() -> None:
    """What was begun is not sent again: the reader learns that the rest is lost, and by whom."""

    async def main() -> None:
        async with stage(streaming(3, 0.1, then="break")) as site:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda loop, context: None)  # the played peer's defect is told to it
            pieces = []

            async def read() -> None:
                async with site.client.stream("GET", "/log") as response:
                    assert not isinstance(response.body, bytes)
                    async for piece in response.body:
                        pieces.append(piece)  # noqa: PERF401  # what came before the break counts

            with pytest.raises(ConnectionLost) as raised:
                await read()
            assert pieces == [b"0", b"1", b"2"]
            assert raised.value.peer == "user"
            assert site.asked == 1

    run(main())


def test_a_stream_that_is_left_ends_the_peers_work() -> None:
    """Leaving the block closes the connection, and the peer stops producing."""

    async def main() -> None:
        async with stage(streaming(1000, 1.0)) as site:
            async with site.client.stream("GET", "/log"):
                await asyncio.sleep(2.5)
            await settle()
            assert site.played[0].server.in_flight == 0
            assert site.network.describe()["connections"] == 0

    run(main())


def test_a_stream_that_is_read_to_its_end_gives_its_connection_back() -> None:
    """The next call uses the same connection."""

    async def main() -> None:
        async with stage(streaming(2, 0.1)) as site:
            for _ in range(3):
                async with site.client.stream("GET", "/log") as response:
                    await response.read()
                await asyncio.sleep(0.1)
            assert site.network.describe()["connections"] == 1

    run(main())


# -- connections


def test_connections_are_kept_and_shared() -> None:
    """Calls one after another use one connection."""

    async def main() -> None:
        async with stage([200]) as site:
            for _ in range(10):
                await site.client.get("/")
            assert site.network.describe()["connections"] == 1

    run(main())


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_connection_that_the_peer_closed_while_idle_is_nobodys_error(method: str) -> None:
    """A peer that closes kept-alive connections after a while costs neither a GET nor a POST."""

    async def main() -> None:
        async with stage([200]) as site:
            for _ in range(5):
                assert (await site.client.call(method, "/users")).status == 200
                for connection in list(site.played[0].server._open):
                    connection.close(rude=False)
                await settle()
            assert site.asked == 5
            assert site.peer.budget.spent == 0

    run(main())


class Closing(asyncio.Protocol):
    """A peer that answers the first request of each connection and closes on the second one, unanswered."""

    seen: list[bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.count = transport, 0

    def data_received(self, data: bytes) -> None:
        self.seen.append(data.split(b" ", 1)[0])
        self.count += 1
        if self.count == 1:
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        else:
            self.transport.close()


def closing() -> tuple[type[Closing], list[bytes]]:
    seen: list[bytes] = []
    return type("Closing", (Closing,), {"seen": seen}), seen


def test_a_connection_that_closes_under_a_request_costs_an_idempotent_call_nothing() -> None:
    """A GET on a stale connection is sent again at once on a new one; it is neither retried nor blamed."""

    async def main() -> None:
        async with stage([200]) as site:
            protocol, seen = closing()
            site.network._listeners[site.played[0].host, 80].factory = protocol
            for _ in range(4):
                assert (await site.client.get("/")).status == 200
            assert now() == 0
            assert len(seen) == 7
            assert (site.peer.budget.spent, site.peer.breaker.count) == (0, 0)
            assert site.peer.balancer.endpoints[0].failures == 0

    run(main())


def test_a_connection_that_closes_under_a_post_is_an_error_and_the_post_is_not_sent_again() -> None:
    """A peer may have acted on what it read: the caller must know, the instance is not blamed."""

    async def main() -> None:
        async with stage([200]) as site:
            protocol, seen = closing()
            site.network._listeners[site.played[0].host, 80].factory = protocol
            assert (await site.client.post("/users")).status == 200
            error = await failing(site.client.post("/users"))
            assert isinstance(error, ConnectionLost)
            assert (error.idle, error.sent) == (True, True)
            assert seen == [b"POST", b"POST"]
            assert (site.peer.breaker.count, site.peer.balancer.endpoints[0].failures) == (0, 0)

    run(main())


def test_an_answer_over_the_limit_is_no_failure_of_the_peer() -> None:
    """It is not asked for again, the error says what to set, and a stream of the same answer is read to its end."""

    async def main() -> None:
        large = Response(200, b"x" * 2000, content_type="text/plain")
        async with stage([large], [large], config=ClientConfig(max_answer=1000)) as site:
            for count in range(1, 7):
                error = await failing(site.client.get("/"))
                assert isinstance(error, PeerError)
                assert error.outcome is MISFIT
                assert "over the 1000 bytes that are read whole; set clients.user.max_answer, or read it" in error.detail
                assert site.asked == count
            assert site.peer.breaker.count == 0
            async with site.client.stream("GET", "/") as response:
                assert len(await response.read()) == 2000

    run(main())


def test_a_retry_at_the_only_instance_takes_a_new_connection() -> None:
    """What is one address may be many instances behind it: the connection that led to a failing one is not used for it."""

    async def main() -> None:
        async with stage([200, 503, 200, 200]) as site:
            [user] = site.played
            await site.client.get("/")
            assert (await site.client.get("/")).status == 200
            assert (await site.client.get("/")).status == 200
            peers = [request.peer for request in user.requests]
            assert peers[0] == peers[1] != peers[2]

    run(main())


# -- every row of the table, as the caller sees it and as the caller's caller does


class Row:
    """How an outcome comes about, and what both callers see of it."""

    def __init__(
        self,
        *script: Any,
        error: type[BaseException] | None = PeerError,
        answer: int,
        attempts: int = 1,
        breaker: int = 0,
        prepare: Callable[[Stage], None] | None = None,
        **options: Any,
    ) -> None:
        self.script = script
        self.error = error
        self.answer = answer
        self.attempts = attempts
        self.breaker = breaker
        self.prepare = prepare
        self.options = options


def raising(error: Exception) -> Callable[[Stage], None]:
    """Attempts end with that error without reaching the peer."""

    def prepare(site: Stage) -> None:
        async def send(request: Request) -> Response:
            raise error

        for endpoint in site.peer.balancer.endpoints:
            endpoint.send = send

    return prepare


def opened(site: Stage) -> None:
    for _ in range(5):
        token = site.peer.breaker.enter(now())
        assert token is not None
        site.peer.breaker.settle(token, UNAVAILABLE.breaker, now(), UNAVAILABLE.name)


def refusing(site: Stage) -> None:
    site.network.refuse(site.played[0].host, 80)


def cutting(site: Stage) -> None:
    site.network.cut(site.played[0].host, 80, after=10)


def nobody(site: Stage) -> None:
    site.peer.store._known = {}
    site.peer.balancer.update(())


async def defect(request: Request) -> Response:
    raise ValueError("a defect below")


ROWS: dict[str, Row] = {
    "ok": Row(200, error=None, answer=200),
    "redirect": Row(302, answer=502),
    "client_error": Row(404, answer=502),
    "throttled": Row(problem(429, retry_after="120"), answer=503),
    "shed": Row(problem(503, x_rejected="shed"), answer=503, attempts=3, breaker=1),
    "leaving": Row(problem(503, x_rejected="draining"), answer=503, attempts=3),
    "expired": Row(problem(504, x_rejected="expired"), answer=504),
    "final": Row(problem(500, x_should_retry="false"), answer=503, breaker=1),
    "unavailable": Row(503, answer=503, attempts=3, breaker=1),
    "server_error": Row(500, answer=502, breaker=1),
    "refused": Row(200, error=ConnectFailed, answer=503, attempts=0, breaker=1, prepare=refusing),
    "closed_unsent": Row(
        200, error=ConnectionLost, answer=503, attempts=0, prepare=raising(ConnectionLost("closed", idle=True, sent=False))
    ),
    "closed_idle": Row(200, error=ConnectionLost, answer=503, attempts=0, prepare=raising(ConnectionLost("closed", idle=True))),
    "lost": Row(200, error=ConnectionLost, answer=503, attempts=3, breaker=1, prepare=cutting),
    "timeout": Row(5.0, error=CallTimeout, answer=503, attempts=3, breaker=1),
    "deadline_short": Row(5.0, error=CallTimeout, answer=504, attempts=3, timeout=60.0),
    "deadline": Row(15.0, error=CallTimeout, answer=504, attempts=3, breaker=1, timeout=12.0),
    "cancelled": Row(5.0, error=asyncio.CancelledError, answer=0),
    "breaker_open": Row(200, error=BreakerOpen, answer=503, attempts=0, prepare=opened),
    "no_instances": Row(200, error=NoInstances, answer=503, attempts=0, prepare=nobody),
    "misfit": Row(200, answer=502, into=int),
    "unknown": Row(200, error=ValueError, answer=500, attempts=0, breaker=1, prepare=raising(ValueError("a defect"))),
}


def test_every_row_of_the_table_is_played() -> None:
    """No outcome was added without saying what both callers see of it."""
    assert list(ROWS) == [row.name for row in TABLE]


@pytest.mark.parametrize("name", ROWS)
def test_every_outcome_as_both_callers_see_it(name: str) -> None:
    """The caller gets the right error with its outcome, breaker and attempts are as the table says, and whoever called
    the caller gets the right status, told whether a retry makes sense."""
    row = ROWS[name]
    outcome = next(each for each in TABLE if each.name == name)

    async def main() -> None:
        seen: list[BaseException | None] = []
        async with stage([*row.script]) as site:

            async def get() -> str:
                try:
                    await site.client.get("/users/7", **row.options)
                except BaseException as error:
                    seen.append(error)
                    raise
                seen.append(None)
                return "done"

            async with site.in_front(get) as order:
                if row.prepare is not None:
                    row.prepare(site)
                deadline = {"x-request-timeout-ms": "10000"} if name.startswith("deadline") else {}
                asked = asyncio.ensure_future(order.send(Request("GET", "/", headers=Headers(deadline))))
                if name == "cancelled":
                    await asyncio.sleep(0.1)
                    asked.cancel()
                    await asyncio.wait([asked])
                    await settle()
                else:
                    response = await asked
                    assert response.status == row.answer
                    should_retry = None if name in ("ok", "unknown") else "false"
                    assert response.headers.get("x-should-retry") == should_retry
                    assert response.headers.get("x-rejected") is None
                    assert response.headers.get("retry-after") == ("120" if name == "throttled" else None)
        [error] = seen
        assert error is None if row.error is None else isinstance(error, row.error)
        if isinstance(error, CallError):
            assert error.outcome is outcome
            assert error.peer == "user"
            assert error.detail
        assert site.asked == row.attempts
        assert (site.peer.breaker.count if name != "breaker_open" else 0) == row.breaker
        told = "ok" if name == "misfit" else name  # its status was fine, and that is what the call came to
        page = site.telemetry.metrics.render().decode()
        assert f'mizzen_call_duration_seconds_count{{peer="user",outcome="{told}"}} 1' in page

    run(main())


@pytest.mark.parametrize(
    ("name", "counted"),
    [(row.name, row.name not in ("ok", "redirect", "client_error", "misfit", "cancelled")) for row in TABLE],
)
def test_failed_calls_are_those_without_an_answer_to_work_with(name: str, counted: bool) -> None:
    """An outage of the registry is blamed for calls that failed for want of an instance, and not for a peer's 404."""
    row = ROWS[name]

    async def main() -> None:
        async with stage([*row.script]) as site:
            if row.prepare is not None:
                row.prepare(site)
            if name.startswith("deadline"):
                enter(Context(deadline=now() + 10, clock=now))
            call = asyncio.ensure_future(site.client.get("/", **row.options))
            if name == "cancelled":
                await asyncio.sleep(0.1)
                call.cancel()
            await asyncio.wait([call])
            assert call.cancelled() or (call.exception() is None) == (name == "ok")
            assert site.peer.failed_calls == int(counted)

    run(main())


def test_a_classifier_of_ones_own_is_asked_for_every_attempt() -> None:
    """What it says decides retries, breaker and what the caller gets."""

    def judge(request: Request, result: Response | BaseException) -> Outcome:
        if isinstance(result, Response) and result.status == 418:
            return OK
        if isinstance(result, Response) and result.headers.get("x-soft-failure"):
            return UNAVAILABLE
        return classify(request, result)

    async def main() -> None:
        async with stage([418, 200], judge=judge) as site:
            assert (await site.client.get("/tea")).status == 418
        soft = Response(200, b"{}", headers={"x-soft-failure": "1"})
        async with stage([soft, 200], judge=judge) as site:
            assert (await site.client.get("/")).status == 200
            assert site.asked == 2
        async with stage([soft], judge=judge) as site:
            error = await failing(site.client.get("/"))
            assert isinstance(error, PeerError)
            assert (error.status, error.outcome) == (200, UNAVAILABLE)

    run(main())


def test_the_story_of_a_call_can_be_told() -> None:
    """Whoever asks for an explanation gets each attempt with its instance, its outcome and what followed."""

    async def main() -> None:
        async with stage([200], [200]) as site:
            site.peer.explain = True
            site.network.refuse(site.played[0].host, 80)
            stories = []
            for _ in range(5):
                request = Request("GET", "/users/7", peer="user")
                request.call = call = site.peer.begin(idempotent=True, timeout=2.0, declared=frozenset())
                await site.peer.send(request)
                stories.append(call.notes or [])
            story = next(story for story in stories if len(story) > 1)
            assert story[0].startswith(
                f"1  {site.played[0].id}  refused after 0ms · nothing sent, any method may retry · budget"
            )
            assert story[1].startswith("   waited ")
            assert story[1].endswith("ms, next on another instance")
            assert story[2].startswith(f"2  {site.played[1].id}  200 in 0ms")

    run(main())


def test_the_played_peer_is_a_peer() -> None:
    """The stage itself: an instance answers by its script and says what reached it."""

    async def main() -> None:
        async with stage([201, 202]) as site:
            assert [(await site.client.get("/")).status for _ in range(3)] == [201, 202, 202]
            [played] = site.played
            assert isinstance(played, Played)
            assert played.timeouts == [1000, 1000, 1000]
            assert repr(site.peer.stack) == "<Stack edge > breaker > retry > attempt>"

    run(main())
