"""The client's handle: what it sends for what it is told, and what it makes of the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
import pydantic
import pytest

from mizzen.assembly.client import EXCERPT, TEMPLATES, Client
from mizzen.tools.testing.virtual import run
from mizzen.words.context import Context
from mizzen.words.errors import ConnectionLost, PeerError, Problem
from mizzen.words.message import Call, Request, Response
from mizzen.words.outcome import CLIENT_ERROR, MISFIT, OK, UNAVAILABLE, Outcome, Resend, Verdict, classify


class User(msgspec.Struct):
    id: int
    name: str = ""


class Model(pydantic.BaseModel):
    id: int
    full_name: str = pydantic.Field(default="", alias="fullName")


class Colour(Enum):
    RED = "red"


Answering = Callable[[Request], Awaitable[Response]]


class FakeLine:
    """A way to the peer that the test plays: it answers as told and remembers what was sent."""

    explain = False
    timeout = 2.0

    def __init__(self, *answers: Response) -> None:
        self.requests: list[Request] = []
        self.calls: list[Call] = []
        self.answers = list(answers) or [Response(200, b"{}")]

    def clock(self) -> float:
        return asyncio.get_running_loop().time()

    def begin(self, idempotent: bool, timeout: float, declared: frozenset[int]) -> Call:
        now = self.clock()
        call = Call(idempotent=idempotent, timeout=timeout, started=now, deadline=now + timeout, declared=declared)
        self.calls.append(call)
        return call

    async def send(self, request: Request) -> Response:
        assert request.call is not None
        self.requests.append(request)
        request.context = Context(clock=self.clock)
        response = self.answers.pop(0)
        request.call.outcome = classify(request, response)
        return response


def client(line: FakeLine | None = None) -> Client:
    made = Client("user", required=False, timeout=None, retries=None, classify=classify)
    made.line = line
    return made


def sent(call: Callable[[Client], Awaitable[Any]], *answers: Response) -> tuple[Request, Call, Any]:
    """What one call sent, and what it gave."""

    async def main() -> tuple[Request, Call, Any]:
        line = FakeLine(*answers)
        result = await call(client(line))
        [request], [record] = line.requests, line.calls
        return request, record, result

    return run(main())


def failure(call: Callable[[Client], Awaitable[Any]], *answers: Response) -> PeerError:
    with pytest.raises(PeerError) as raised:
        sent(call, *answers)
    return raised.value


def json(value: Any, status: int = 200) -> Response:
    return Response.json_of(value, status)


# -- what is sent


def test_a_request_is_made_of_template_path_query_and_headers() -> None:
    """Each part has an argument of its own, and the template stays known for metrics and messages."""
    request, _, _ = sent(
        lambda user: user.get(
            "/users/{id}/orders",
            path={"id": "a/b"},
            query={"limit": 3, "tag": ["x", "y"], "deep": True, "colour": Colour.RED, "none": None},
            headers={"X-Tenant": "north"},
        )
    )
    assert (request.method, request.path, request.route) == ("GET", "/users/a%2Fb/orders", "/users/{id}/orders")
    assert request.query == "limit=3&tag=x&tag=y&deep=true&colour=red"
    assert request.headers.get("x-tenant") == "north"
    assert (request.body, request.peer, request.stream) == (b"", "user", False)


@pytest.mark.parametrize("method", ["get", "head", "post", "put", "patch", "delete"])
def test_every_verb_sends_its_method(method: str) -> None:
    """The verbs differ in the method alone."""
    request, _, _ = sent(lambda user: getattr(user, method)("/users"))
    assert request.method == method.upper()


@pytest.mark.parametrize(
    ("method", "options", "idempotent"),
    [
        ("GET", {}, True),
        ("HEAD", {}, True),
        ("OPTIONS", {}, True),
        ("POST", {}, False),
        ("PUT", {}, False),
        ("PATCH", {}, False),
        ("DELETE", {}, False),
        ("POST", {"idempotent": True}, True),
        ("GET", {"idempotent": False}, False),
        ("POST", {"headers": {"Idempotency-Key": "k1"}}, True),
        ("POST", {"headers": {"Idempotency-Key": "k1"}, "idempotent": False}, False),
    ],
)
def test_what_may_be_sent_again(method: str, options: dict[str, Any], idempotent: bool) -> None:
    """Reading may; writing may with a key, or when the caller says so; what the caller says wins."""
    _, call, _ = sent(lambda user: user.call(method, "/users", **options))
    assert call.idempotent is idempotent


def test_the_time_of_a_call_is_its_own_or_the_clients() -> None:
    """A call may have another timeout than its client."""
    assert sent(lambda user: user.get("/"))[1].timeout == 2.0
    assert sent(lambda user: user.get("/", timeout=0.3))[1].timeout == 0.3


class Pieces:
    """A body in pieces."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration


@pytest.mark.parametrize(
    ("body", "data", "kind"),
    [
        (User(7, "Ann"), b'{"id":7,"name":"Ann"}', "application/json"),
        ({"id": UUID(int=7)}, b'{"id":"00000000-0000-0000-0000-000000000007"}', "application/json"),
        ([1, 2], b"[1,2]", "application/json"),
        ("text", b'"text"', "application/json"),
        (0, b"0", "application/json"),
        (False, b"false", "application/json"),
        (Model(id=7, fullName="Ann"), b'{"id":7,"fullName":"Ann"}', "application/json"),
        ([Model(id=7, fullName="Ann")], b'[{"id":7,"fullName":"Ann"}]', "application/json"),
        (b"raw", b"raw", None),
        (bytearray(b"raw"), b"raw", None),
        (b"", b"", None),
        (None, b"", None),
    ],
)
def test_a_body_is_json_unless_it_is_bytes(body: Any, data: bytes, kind: str | None) -> None:
    """Records, builtins and pydantic models are encoded and labelled; bytes go as they are, without a guess at their type."""
    request, _, _ = sent(lambda user: user.post("/users", body=body))
    assert (request.body, request.headers.get("content-type")) == (data, kind)


def test_a_body_may_come_in_pieces() -> None:
    """An async iterator is handed on as it is."""
    pieces = Pieces()
    request, _, _ = sent(lambda user: user.put("/users/7/photo", body=pieces, headers={"content-type": "image/png"}))
    assert request.body is pieces
    assert request.headers.all("content-type") == ["image/png"]


def test_a_content_type_of_the_callers_own_is_kept() -> None:
    """What the caller labels is not labelled again."""
    request, _, _ = sent(lambda user: user.patch("/users/7", body={}, headers={"Content-Type": "application/merge-patch+json"}))
    assert request.headers.all("content-type") == ["application/merge-patch+json"]


@pytest.mark.parametrize("option", ["retries", "json", "params", "data", "method_", "stream"])
def test_an_unknown_option_is_a_type_error(option: str) -> None:
    """A misspelt option is never taken for a path or query parameter in silence."""
    for verb in ("get", "post", "call"):
        arguments = ("GET", "/users") if verb == "call" else ("/users",)
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{option}'"):
            sent(lambda user, verb=verb, arguments=arguments: getattr(user, verb)(*arguments, **{option: 1}))


def test_path_parameters_must_fit_the_template() -> None:
    """One missing or one too many is an error before anything is sent."""
    for path in (None, {}, {"name": "7"}, {"id": "7", "more": "8"}):
        with pytest.raises(ValueError, match="takes path parameters"):
            sent(lambda user, path=path: user.get("/users/{id}", path=path))


def test_templates_with_ids_in_them_do_not_fill_the_memory() -> None:
    """Whoever writes ids into the template is served, but not all of what was written is kept."""

    async def main() -> None:
        line = FakeLine(*[Response(200)] * (TEMPLATES + 10))
        user = client(line)
        for number in range(TEMPLATES + 10):
            await user.get(f"/users/{number}")
        assert len(user._targets) == TEMPLATES
        assert line.requests[-1].path == f"/users/{TEMPLATES + 9}"

    run(main())


@pytest.mark.parametrize("id", ["", ".", ".."])
def test_a_path_parameter_cannot_lead_elsewhere(id: str) -> None:
    """A segment that would be another path is refused."""
    with pytest.raises(ValueError, match="cannot be"):
        sent(lambda user: user.get("/users/{id}", path={"id": id}))


@pytest.mark.parametrize(
    "headers",
    [{"x-tenant": "a\r\nx-admin: 1"}, {"x-tenant": "a\n"}, {"x tenant": "a"}, {"": "a"}, {"x-tenant:": "a"}, {"x": "\x00"}],
)
def test_a_header_cannot_break_the_message_apart(headers: dict[str, str]) -> None:
    """Names and values from outside cannot add a header or a body."""
    with pytest.raises(ValueError, match="header"):
        sent(lambda user: user.get("/users", headers=headers))


def test_a_client_that_is_not_connected_says_so() -> None:
    """Calling outside of a running service is a mistake with a message."""
    with pytest.raises(RuntimeError, match="the client 'user' is not connected: its service is not running"):
        asyncio.run(client().get("/users"))


# -- what comes back


def test_without_a_type_the_answer_is_the_response() -> None:
    """Status, headers and body are all there."""
    answer = Response(204)
    assert sent(lambda user: user.get("/users"), answer)[2] is answer


@pytest.mark.parametrize(
    ("into", "body", "value"),
    [
        (User, b'{"id":7,"name":"Ann"}', User(7, "Ann")),
        (list[User], b'[{"id":7}]', [User(7)]),
        (dict[str, int], b'{"a":1}', {"a": 1}),
        (int, b"7", 7),
        (Model, b'{"id":7,"fullName":"Ann"}', Model(id=7, fullName="Ann")),
        (list[Model], b'[{"id":7,"fullName":"Ann"}]', [Model(id=7, fullName="Ann")]),
        (User | None, b"null", None),
    ],
)
def test_a_typed_answer_is_decoded(into: Any, body: bytes, value: Any) -> None:
    """The body becomes what was asked for, strictly: records, lists of them, builtins, pydantic models."""
    assert sent(lambda user: user.get("/users", into=into), Response(200, body))[2] == value


@pytest.mark.parametrize(
    ("into", "body", "name"),
    [
        (User, b'{"id":"seven"}', "User"),
        (User, b"", "User"),
        (User, b"<html>", "User"),
        (list[User], b"{}", "list"),
        (Model, b'{"id":"seven"}', "Model"),
        (list[Model], b'[{"id":"seven"}]', "list"),
    ],
)
def test_a_body_that_does_not_fit_is_the_peers_failure(into: Any, body: bytes, name: str) -> None:
    """The error names peer, route and type, has the body, and is 502 to our own caller."""
    error = failure(lambda user: user.get("/users/{id}", path={"id": 7}, into=into), Response(200, body))
    assert error.detail.startswith(f"user answered GET /users/{{id}} with a body that is not a {name}")
    assert (error.status, error.peer, error.body, error.outcome, error.problem) == (200, "user", body, MISFIT, None)
    assert isinstance(error.__cause__, ValueError)


@pytest.mark.parametrize("absent", [None, False, User(0), []])
def test_absent_stands_for_a_404(absent: Any) -> None:
    """What the caller gives for an absent thing is returned as it is, and the 404 is a success of the call."""
    _, call, result = sent(lambda user: user.get("/users/7", into=User, absent=absent), json({}, 404))
    assert result is absent
    assert call.outcome is OK


def test_absent_leaves_other_answers_as_they_are() -> None:
    """A 200 is decoded, a 410 is an error."""
    assert sent(lambda user: user.get("/users/7", into=User, absent=None), json({"id": 7}))[2] == User(7)
    assert failure(lambda user: user.get("/users/7", into=User, absent=None), json({}, 410)).status == 410


def test_without_absent_a_404_is_an_error() -> None:
    """Nothing that the peer says becomes our own answer by accident."""
    error = failure(lambda user: user.get("/users/7", into=User), json({}, 404))
    assert (error.status, error.outcome) == (404, CLIENT_ERROR)


@pytest.mark.parametrize("status", [304, 404, 409, 503])
def test_declared_statuses_are_returned_as_they_are(status: int) -> None:
    """Whoever expects a status gets the response, whatever type was asked for."""
    answer = json({"id": "not a user"}, status)
    _, call, result = sent(lambda user: user.get("/users/7", into=User, statuses=[status]), answer)
    assert result is answer
    assert call.outcome is OK


def test_absent_and_statuses_go_together() -> None:
    """A 404 is absent, a declared 409 the response."""
    assert sent(lambda user: user.post("/users", absent="gone", statuses={409}), json({}, 404))[2] == "gone"
    assert sent(lambda user: user.post("/users", absent="gone", statuses={409}), json({}, 409))[2].status == 409


def test_any_other_status_is_an_error_that_has_the_peers_problem() -> None:
    """Status, problem, headers and body of the peer are for whoever catches it; the message says what the peer said."""
    answer = Response(
        503, b'{"title":"Service Unavailable","status":503,"detail":"no database","trace_id":"t"}',
        headers={"Content-Type": "application/problem+json", "Retry-After": "3"},
    )  # fmt: skip
    error = failure(lambda user: user.get("/users/{id}", path={"id": 7}), answer)
    assert error.detail == "user answered 503 to GET /users/{id}: no database"
    assert isinstance(error.problem, Problem)
    assert (error.problem.detail, error.problem.trace_id) == ("no database", "t")
    assert (error.status, error.peer, error.outcome) == (503, "user", UNAVAILABLE)
    assert error.headers["retry-after"] == "3"
    assert error.body == answer.body


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        ("application/problem+json", b'{"title":"Conflict"}', ": Conflict"),
        ("application/problem+json; charset=utf-8", b'{"detail":"taken"}', ": taken"),
        ("application/problem+json", b"not json", ""),
        ("application/problem+json", b'{"title":"\xff"}', ""),
        ("application/problem+json", b'{"more":' + b"[" * 10_000, ""),
        ("application/problem+json", b'{"status":"many"}', ""),
        ("application/json", b'{"detail":"secret"}', ""),
        ("text/html", b"<html>", ""),
    ],
)
def test_a_problem_is_believed_where_it_is_one(kind: str, body: bytes, said: str) -> None:
    """What only says that it is a problem, or does not say it, leaves the status to speak."""
    error = failure(lambda user: user.get("/users"), Response(409, body, content_type=kind))
    assert error.detail == f"user answered 409 to GET /users{said}"
    assert (error.problem is None) == (said == "")


@pytest.mark.parametrize("status", [301, 302, 304])
def test_a_redirect_is_not_followed(status: int) -> None:
    """A peer that answers 3xx is not where it should be: that is an error, and nothing is sent elsewhere."""
    assert failure(lambda user: user.get("/users"), Response(status, headers={"location": "/v2"})).status == status


def test_a_classifier_of_ones_own_decides_what_is_an_error() -> None:
    """The outcome decides, not the status: a client may see success where the table sees none."""

    class Lenient(FakeLine):
        async def send(self, request: Request) -> Response:
            response = await super().send(request)
            assert request.call is not None
            request.call.outcome = OK
            return response

    async def main() -> Any:
        return await client(Lenient(Response(418))).get("/tea")

    assert run(main()).status == 418


def test_an_outcome_of_a_classifiers_own_making_counts_by_what_it_says() -> None:
    """An outcome whose status is no error gives the answer to the caller, whichever object it is."""

    class Remaking(FakeLine):
        async def send(self, request: Request) -> Response:
            response = await super().send(request)
            assert request.call is not None
            request.call.outcome = Outcome("mine", Resend.NEVER, Verdict.NEUTRAL, Verdict.NEUTRAL, 200)
            return response

    async def main() -> Any:
        return await client(Remaking(Response(200, b"7"))).get("/", into=int)

    assert run(main()) == 7


# -- streams


class Stream:
    """A body in pieces that knows whether it was closed; it may hang or break before its end."""

    def __init__(self, *pieces: bytes, then: str = "end") -> None:
        self.pieces = list(pieces)
        self.then = then
        self.closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self.pieces:
            return self.pieces.pop(0)
        if self.then == "hang":
            await asyncio.Event().wait()
        if self.then == "break":
            raise ConnectionLost("reset", peer="user")
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed = True


def test_a_stream_is_read_as_it_arrives_and_closed_at_the_end() -> None:
    """The body is an iterator inside of the block, and given back after it whether it was read or not."""

    async def main() -> None:
        stream = Stream(b"a", b"b")
        line = FakeLine(Response(200, stream))
        async with client(line).stream("GET", "/log", query={"n": 1}, timeout=5) as response:
            assert not isinstance(response.body, bytes)
            assert [piece async for piece in response.body] == [b"a", b"b"]
            assert not stream.closed
        assert stream.closed
        assert line.requests[0].stream
        assert line.calls[0].timeout == 5

    run(main())


def test_a_stream_that_is_left_early_is_closed() -> None:
    """An error inside of the block gives the connection back all the same."""

    async def main() -> None:
        stream = Stream(b"a", b"b")
        with pytest.raises(KeyError):
            async with client(FakeLine(Response(200, stream))).stream("GET", "/log"):
                raise KeyError
        assert stream.closed

    run(main())


@pytest.mark.parametrize(
    ("stream", "body"),
    [
        (Stream(b'{"detail":', b'"no log"}'), b'{"detail":"no log"}'),
        (Stream(b"half", then="break"), b"half"),
        (Stream(b"half", then="hang"), b"half"),
        (Stream(*[b"x" * 1000] * 1000), b"x" * EXCERPT),
    ],
)
def test_a_stream_that_is_refused_is_an_error_in_time(stream: Stream, body: bytes) -> None:
    """The body of an error is read as far as it comes in the time of the call, and no further than a problem is long."""

    async def main() -> None:
        answer = Response(503, stream, content_type="application/problem+json")
        with pytest.raises(PeerError) as raised:
            async with client(FakeLine(answer)).stream("GET", "/log", timeout=1.5):
                raise AssertionError("not entered")
        assert (raised.value.status, raised.value.body) == (503, body)
        assert stream.closed
        assert len(body) < EXCERPT or len(stream.pieces) > 900  # the rest is not even fetched
        assert asyncio.get_running_loop().time() == pytest.approx(1.5 if stream.then == "hang" else 0)

    run(main())


def test_a_streams_declared_statuses_are_streams() -> None:
    """What the caller expects is handed over as it arrives."""

    async def main() -> None:
        async with client(FakeLine(Response(416, Stream(b"a")))).stream("GET", "/log", statuses=[416]) as response:
            assert response.status == 416
            assert await response.read() == b"a"

    run(main())


def test_a_handle_reads_like_a_status_line() -> None:
    """One sees which peer it is, and whether it is connected."""

    async def main() -> str:
        return repr(client(FakeLine()))

    assert asyncio.run(main()) == "<Client user>"
    assert repr(client()) == "<Client user, not connected>"
