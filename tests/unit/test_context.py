"""Context: what a caller's headers carry in, and what ours carry on."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.words.context import LONGEST_TIMEOUT, Context, carry, current, enter, receive, timeout_field
from mizzen.words.message import Headers

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def at(now: float):  # type: ignore[no-untyped-def]
    """A clock that stands."""
    return lambda: now


def hexadecimal(text: str, length: int) -> bool:
    return len(text) == length and set(text) <= set("0123456789abcdef")


def test_without_headers_a_trace_begins() -> None:
    """A request from outside gets ids of its own, no parent and no deadline."""
    context = receive(Headers())
    assert hexadecimal(context.trace_id, 32)
    assert hexadecimal(context.span_id, 16)
    assert (context.parent_id, context.flags, context.deadline, context.remaining()) == ("", "01", None, None)


def test_a_callers_trace_goes_on() -> None:
    """Trace id, flags and tracestate are the caller's, its span is our parent, our span is new."""
    context = receive(Headers({"traceparent": f"00-{TRACE}-{SPAN}-00", "tracestate": "a=1", "baggage": "user=7"}))
    assert (context.trace_id, context.parent_id, context.flags) == (TRACE, SPAN, "00")
    assert (context.tracestate, context.baggage) == ("a=1", "user=7")
    assert context.span_id != SPAN


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "nonsense",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01\u00ff",
    ],
)
def test_a_malformed_traceparent_begins_a_new_trace(parent: str) -> None:
    """What W3C Trace Context calls invalid is dropped, with the tracestate that belongs to it."""
    context = receive(Headers({"traceparent": parent, "tracestate": "a=1"}))
    assert context.trace_id != TRACE
    assert (context.parent_id, context.tracestate) == ("", "")


def test_a_later_version_of_traceparent_is_read_as_far_as_known() -> None:
    """A higher version may have more fields; the ones we know still count."""
    assert receive(Headers({"traceparent": f"01-{TRACE}-{SPAN}-01-more"})).trace_id == TRACE


def test_several_tracestate_headers_are_one_list() -> None:
    """Fields of the same name are joined in order."""
    headers = Headers([("traceparent", f"00-{TRACE}-{SPAN}-01"), ("tracestate", "a=1"), ("tracestate", "b=2")])
    assert receive(headers).tracestate == "a=1,b=2"


def test_a_timeout_becomes_a_deadline_on_our_clock() -> None:
    """The header is relative, so clocks of two hosts are never compared."""
    context = receive(Headers({"x-request-timeout-ms": "1500"}), clock=at(100.0))
    assert context.deadline == pytest.approx(101.5)
    assert context.remaining() == pytest.approx(1.5)


def test_a_timeout_counts_from_when_the_request_came() -> None:
    """The moment of arrival may be given, when reading took time."""
    assert receive(Headers({"x-request-timeout-ms": "1000"}), clock=at(100.0), now=99.0).deadline == pytest.approx(100.0)


@pytest.mark.parametrize("order", [1, -1])
def test_our_timeout_header_goes_before_envoys(order: int) -> None:
    """Of the two headers ours wins, in whichever order they come."""
    headers = [("x-request-timeout-ms", "1000"), ("x-envoy-expected-rq-timeout-ms", "9000")][::order]
    assert receive(Headers(headers), clock=at(0.0)).deadline == pytest.approx(1.0)


def test_envoys_timeout_header_is_read() -> None:
    """Behind Envoy the deadline crosses as well."""
    assert receive(Headers({"x-envoy-expected-rq-timeout-ms": "2000"}), clock=at(0.0)).deadline == pytest.approx(2.0)


@pytest.mark.parametrize("claim", ["", "-5", "1.5", "soon", "١"])  # noqa: RUF001  # a digit, but not an ASCII one
def test_a_malformed_timeout_is_no_deadline(claim: str) -> None:
    """What is not a whole number of milliseconds is dropped."""
    headers = Headers.of([(b"x-request-timeout-ms", claim.encode())])
    assert receive(headers).deadline is None


@given(st.integers(0, 10**40))
def test_no_claim_reaches_beyond_a_day(milliseconds: int) -> None:
    """However much a caller claims, the deadline is within a day and a timer can take it."""
    deadline = receive(Headers({"x-request-timeout-ms": str(milliseconds)}), clock=at(0.0)).deadline
    assert deadline is not None
    assert deadline == pytest.approx(min(milliseconds / 1000, LONGEST_TIMEOUT))


def test_no_time_left_is_a_deadline_that_is_over() -> None:
    """A timeout of 0 is not the same as none."""
    assert receive(Headers({"x-request-timeout-ms": "0"}), clock=at(7.0)).remaining() == 0


def test_a_child_has_a_span_of_its_own_in_the_same_trace() -> None:
    """A call made on behalf of a request keeps its trace, deadline and baggage."""
    parent = Context(TRACE, deadline=5.0, clock=at(1.0), tracestate="a=1", baggage="b=2", flags="00")
    child = parent.child()
    assert (child.trace_id, child.parent_id, child.deadline) == (TRACE, parent.span_id, 5.0)
    assert (child.tracestate, child.baggage, child.flags) == ("a=1", "b=2", "00")
    assert child.span_id != parent.span_id
    assert child.remaining() == 4.0


def test_what_is_sent_is_what_the_next_one_receives() -> None:
    """Across a hop the trace goes on, under a span of the call's own, and the time left is the deadline."""
    context = Context(TRACE, tracestate="a=1", baggage="b=2", flags="00")
    headers = Headers()
    carry(context, headers.raw)
    headers.raw[-1] = timeout_field(0.75)
    received = receive(headers, clock=at(10.0))
    assert (received.trace_id, received.flags) == (TRACE, "00")
    assert received.parent_id not in ("", context.span_id, context.parent_id)
    assert (received.tracestate, received.baggage) == ("a=1", "b=2")
    assert received.deadline == pytest.approx(10.75)


def test_only_what_there_is_is_sent() -> None:
    """No empty headers go out."""
    headers = Headers()
    carry(Context(), headers.raw)
    assert [name for name, _ in headers] == ["traceparent", "x-request-timeout-ms"]


def test_a_rest_of_time_is_sent_as_one_millisecond() -> None:
    """Less than a millisecond is never told as none."""
    assert timeout_field(0.0002) == (b"x-request-timeout-ms", b"1")


def test_a_call_for_nobody_begins_a_trace() -> None:
    """Each one for itself, and valid."""
    traces = set()
    for _ in range(2):
        headers = Headers()
        carry(None, headers.raw)
        traces.add(receive(headers).trace_id)
        assert receive(headers).parent_id
    assert len(traces) == 2


def test_the_current_context_is_a_tasks_own() -> None:
    """A task that enters a context changes neither its parent's nor its sibling's."""

    async def work(context: Context) -> Context | None:
        enter(context)
        await asyncio.sleep(0)
        return current()

    async def main() -> None:
        first, second = Context(), Context()
        results = await asyncio.gather(work(first), work(second))
        assert list(results) == [first, second]
        assert current() is None

    asyncio.run(main())


def test_a_task_inherits_the_context_it_was_started_in() -> None:
    """Work that a handler starts belongs to its request."""

    async def child() -> Context | None:
        return current()

    async def main() -> None:
        context = Context()
        enter(context)
        assert await asyncio.create_task(child()) is context

    asyncio.run(main())


def test_its_repr_says_how_much_time_is_left() -> None:
    """The repr is a status line."""
    assert repr(Context(TRACE, deadline=2.5, clock=at(1.0))) == f"<Context trace {TRACE}, 1.500s left>"
    assert repr(Context(TRACE)) == f"<Context trace {TRACE}>"
