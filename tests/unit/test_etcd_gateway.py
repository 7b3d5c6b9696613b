"""etcd's gateway: which member is asked, what its refusals mean, and as whom we ask."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from etcd_double import EtcdDouble

from mizzen.edges.resolvers.etcd.answers import Range, decoder, refused, reply_of
from mizzen.edges.resolvers.etcd.gateway import LIMIT, TIMEOUT, Gateway, Member
from mizzen.edges.resolvers.etcd.login import Login
from mizzen.tools.testing.virtual import run
from mizzen.words.errors import CallError, CallTimeout, ConnectFailed, ConnectionLost, PeerError
from mizzen.words.message import Response

RANGE = {"key": "L20v", "range_end": "L20w"}
read = decoder(Range)


class Site:
    """A gateway to some members."""

    def __init__(self, count: int = 3, login: Login | None = None) -> None:
        self.doubles = [EtcdDouble() for _ in range(count)]
        self.login = login

    def gateway(self, random: Callable[[], float] = lambda: 0.0) -> Gateway:
        members = [Member(f"etcd{number}", double) for number, double in enumerate(self.doubles)]
        return Gateway(members, login=self.login, random=random, clock=asyncio.get_running_loop().time)

    @property
    def asked(self) -> list[int]:
        """Requests to each member."""
        return [len(double.requests) for double in self.doubles]

    def run(self, test: Callable[[Gateway], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            await test(self.gateway())

        run(main())


async def ask(gateway: Gateway) -> Range:
    return await gateway.ask("/v3/kv/range", RANGE, read, "a look")


# -- members


def test_the_order_is_shuffled_and_kept() -> None:
    """Processes spread over the members; each sticks to one while that answers."""
    at = Site()

    async def main() -> None:
        numbers = iter([0.9, 0.1, 0.5])
        gateway = at.gateway(lambda: next(numbers))
        for _ in range(5):
            await ask(gateway)
        assert at.asked == [0, 5, 0]
        assert gateway.describe() == {"members": ["etcd1", "etcd2", "etcd0"], "in_use": "etcd1", "user": None}

    run(main())


@pytest.mark.parametrize("fault", ["refused", "lost", "no leader", "broken", "gateway of somebody else", "hung"])
def test_a_member_that_fails_is_left(fault: str) -> None:
    """The next one is asked at once, and from then on."""
    at = Site()
    first = at.doubles[0]
    match fault:
        case "refused":
            first.cut = ConnectFailed("refused")
        case "lost":
            first.cut = ConnectionLost("reset")
        case "no leader":
            first.leader = False
        case "broken":
            first.answers["/v3/kv/range"] = first.refusal(13, 500, "internal error")
        case "hung":
            first.hung = True
        case _:
            first.answers["/v3/kv/range"] = Response(502, b"<html>bad gateway</html>")

    async def test(gateway: Gateway) -> None:
        await ask(gateway)
        await ask(gateway)
        assert at.asked == [1, 2, 0]

    at.run(test)


def test_a_refusal_is_an_answer() -> None:
    """What every member would refuse is not carried from one to the next."""
    at = Site()
    at.doubles[0].answers["/v3/kv/range"] = at.doubles[0].refusal(7, 403, "etcdserver: permission denied")

    async def test(gateway: Gateway) -> None:
        with pytest.raises(PeerError, match="permission denied; whoever shows no user may not"):
            await ask(gateway)
        assert at.asked == [1, 0, 0]

    at.run(test)


def test_members_that_all_hang_cost_less_than_a_beat() -> None:
    """Two seconds for each, and less than five for all of them."""
    at = Site()
    for double in at.doubles:
        double.hung = True

    async def test(gateway: Gateway) -> None:
        with pytest.raises(PeerError, match=r"none of etcd's 3 members could do a look \(etcd0: no answer in 2.0s; etcd1"):
            await ask(gateway)
        assert 2 * TIMEOUT < asyncio.get_running_loop().time() <= LIMIT

    at.run(test)


def test_members_that_nobody_has_time_for_are_not_asked() -> None:
    """Of five that hang three are asked: the other two have their turn with the next request."""
    at = Site(5)
    for double in at.doubles:
        double.hung = True

    async def test(gateway: Gateway) -> None:
        with pytest.raises(PeerError):
            await ask(gateway)
        assert at.asked == [1, 1, 1, 0, 0]
        assert gateway.describe()["in_use"] == "etcd3"

    at.run(test)


def test_a_member_is_left_once() -> None:
    """Whoever learns late that a member failed leaves the one alone that is in use by then."""
    at = Site()

    async def test(gateway: Gateway) -> None:
        first, second, _ = gateway._members
        gateway.leave(first)
        gateway.leave(second)
        gateway.leave(first)
        assert gateway.describe()["in_use"] == "etcd2"

    at.run(test)


def test_what_all_members_say_is_told() -> None:
    """An error names each member and its reason; when none could be reached it is that."""
    at = Site()
    at.doubles[0].cut = ConnectFailed("cannot connect to etcd0: refused")
    at.doubles[1].cut = ConnectFailed("cannot connect to etcd1: no route")
    at.doubles[2].leader = False

    async def test(gateway: Gateway) -> None:
        with pytest.raises(PeerError) as raised:
            await ask(gateway)
        said = "none of etcd's 3 members could do a look (etcd0: refused; etcd1: no route; etcd2: etcdserver: no leader)"
        assert str(raised.value) == said
        at.doubles[2].cut = ConnectFailed("cannot connect to etcd2: refused")
        with pytest.raises(ConnectFailed):
            await ask(gateway)

    at.run(test)


def test_the_one_members_error_is_as_it_is() -> None:
    """Where there is one member its error needs no list around it."""
    at = Site(1)
    at.doubles[0].hung = True

    async def test(gateway: Gateway) -> None:
        with pytest.raises(CallTimeout):
            await ask(gateway)
        assert at.asked == [1]

    at.run(test)


# -- what a refusal says


@pytest.mark.parametrize(
    ("status", "body", "code", "message"),
    [
        (404, b'{"error":"lease not found","message":"lease not found","code":5}', 5, "lease not found"),  # 3.4, 3.5
        (404, b'{"code":5, "message":"lease not found"}', 5, "lease not found"),  # 3.6
        (503, b'{"error":{"grpc_code":14,"http_code":503,"message":"no leader","http_status":"x"}}', 14, "no leader"),
        (503, b'{"error":{"code":14,"message":"no leader"}}', 14, "no leader"),
        (200, b'{"error":{"grpc_code":14,"http_code":503,"message":"no leader"}}\n', 14, "no leader"),
        (404, b"Not Found", -1, "Not Found"),  # 3.5 of a path that it does not have
        (404, b'{"code":5, "message":"Not Found"}', -1, "Not Found"),  # 3.6 of the same
        (502, b"<html>", -1, "<html>"),
        (500, b'{"error":"?"}', -1, "?"),
        (200, b'{"header":{}}', 0, ""),
    ],
)
def test_every_form_of_a_refusal_is_read(status: int, body: bytes, code: int, message: str) -> None:
    """Flat, nested, of either generation of the gateway, and of what is none."""
    reply = reply_of(Response(status, body))
    assert (reply.code, reply.message) == (code, message)


def test_a_gateway_that_is_off_is_named() -> None:
    """A 404 for a path that every etcd has says which switch is off."""
    error = refused(reply_of(Response(404, b"404 page not found\n")), "a look")
    assert "--enable-grpc-gateway" in str(error)


def test_what_does_not_come_from_etcd_is_an_error() -> None:
    """A 200 with something else in it is no empty set."""
    at = Site(1)
    at.doubles[0].answers["/v3/kv/range"] = Response(200, b"<html>welcome</html>")

    async def test(gateway: Gateway) -> None:
        with pytest.raises(PeerError, match="does not come from etcd"):
            await ask(gateway)

    at.run(test)


# -- users


def with_user(password: Callable[[], str | None] = lambda: "word", count: int = 1) -> Site:
    at = Site(count, Login("services", password))
    for double in at.doubles:
        double.users = {"services": "word"}
    return at


def test_one_login_serves_all() -> None:
    """Twenty requests at once, one login: hashing a password is dear. The token goes without "Bearer"."""
    at = with_user()

    async def test(gateway: Gateway) -> None:
        await asyncio.gather(*(ask(gateway) for _ in range(20)))
        [etcd] = at.doubles
        assert [path for path, _ in etcd.requests].count("/v3/auth/authenticate") == 1
        [token] = etcd.tokens
        assert {request.headers.get("authorization") for request in etcd.sent if request.path == "/v3/kv/range"} == {token}
        assert gateway.describe()["user"] == "services"
        assert "word" not in f"{gateway!r} {gateway.describe()} {at.login!r}"

    at.run(test)


@pytest.mark.parametrize(
    "why", ["etcdserver: invalid auth token", "etcdserver: user name is empty", "etcdserver: revision of auth store is old"]
)
def test_a_token_that_ended_is_got_anew(why: str) -> None:
    """Whatever etcd calls it, the request goes through with a new token, and nobody is told."""
    at = with_user()

    async def test(gateway: Gateway) -> None:
        await ask(gateway)
        [etcd] = at.doubles
        refusals = [etcd.refusal(16 if "token" in why else 3, 401 if "token" in why else 400, why)]

        def once() -> Response:
            del etcd.answers["/v3/kv/range"]
            return refusals.pop()

        etcd.answers["/v3/kv/range"] = once
        await ask(gateway)
        assert [path for path, _ in etcd.requests].count("/v3/auth/authenticate") == 2

    at.run(test)


def test_passwords_are_asked_for_at_every_login() -> None:
    """A password that was rotated is used as soon as the token of the old one is refused."""
    words = ["word"]
    at = with_user(lambda: words[-1])

    async def test(gateway: Gateway) -> None:
        await ask(gateway)
        [etcd] = at.doubles
        etcd.users["services"] = "new"
        etcd.tokens.clear()
        with pytest.raises(PeerError, match="the login of services: etcdserver: authentication failed"):
            await ask(gateway)
        words.append("new")
        await ask(gateway)

    at.run(test)


def test_a_user_is_no_harm_where_nobody_is_asked() -> None:
    """An etcd without users refuses logins: then there is none, until it asks for one."""
    at = with_user()

    async def test(gateway: Gateway) -> None:
        [etcd] = at.doubles
        etcd.users = {}
        await ask(gateway)
        await ask(gateway)
        assert [path for path, _ in etcd.requests].count("/v3/auth/authenticate") == 1
        etcd.users = {"services": "word"}
        await ask(gateway)

    at.run(test)


@pytest.mark.parametrize("password", [None, ""])
def test_a_user_without_a_password_is_told_where_to_put_it(password: str | None) -> None:
    """A password file that is empty is named as what it is: nothing is sent to etcd."""
    at = with_user(lambda: password)

    async def test(gateway: Gateway) -> None:
        with pytest.raises(PeerError, match=r"discovery\.token_file"):
            await ask(gateway)
        assert at.asked == [0]

    at.run(test)


def test_a_password_that_cannot_be_read_is_an_error_of_the_call() -> None:
    """Whoever registers or beats gets no error of the file system's, but one that says whose password it was."""

    def absent() -> str:
        raise FileNotFoundError(2, "No such file or directory", "/run/secrets/etcd")

    at = with_user(absent)

    async def test(gateway: Gateway) -> None:
        with pytest.raises(CallError, match=r"the password of etcd's user services cannot be read: .*/run/secrets/etcd"):
            await ask(gateway)

    at.run(test)


def test_where_a_user_is_asked_for_the_error_says_how() -> None:
    """Without one the URL that names it is the fix."""
    at = with_user()
    at.login = None

    async def test(gateway: Gateway) -> None:
        with pytest.raises(CallError, match="etcd://user@"):
            await ask(gateway)

    at.run(test)


def test_a_token_is_good_at_every_member() -> None:
    """Moving on to another member takes no other login; one that does not know the token yet takes one."""
    at = with_user(count=2)

    async def test(gateway: Gateway) -> None:
        await ask(gateway)
        first, second = at.doubles
        second.tokens = first.tokens
        first.cut = ConnectFailed("refused")
        await ask(gateway)
        assert json.dumps(second.requests).count("authenticate") == 0

    at.run(test)
