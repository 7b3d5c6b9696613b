"""Gateway: requests to the members of one etcd cluster over its JSON gateway.

https://etcd.io/docs/v3.5/dev-guide/api_grpc_gateway/
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec

from mizzen.words.clock import Clock, Random
from mizzen.words.errors import CallError, ConnectFailed, PeerError
from mizzen.words.handler import Handler
from mizzen.words.message import Call, Headers, Request, Response

from .answers import PEER, Reply, decoded, refused, reply_of
from .login import PATH as LOGIN
from .login import Login

TIMEOUT = 2.0
"""Seconds for the answer of one member: it takes milliseconds where there is a leader, and seven seconds of etcd's own
where there is none."""
LIMIT = 4.5
"""Seconds for all members together: less than a beat, whatever hangs."""
LEAST = 0.25
"""Seconds below which another member is not worth asking."""

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


class Member:
    """One member's address, and the handler that leads there."""

    __slots__ = ("call", "name")

    def __init__(self, name: str, call: Handler) -> None:
        self.name = name
        self.call = call

    def __repr__(self) -> str:
        return f"<Member {self.name}>"


class Stream(NamedTuple):
    """An answer that arrives in pieces, who gives it, and the token it was asked for with."""

    member: Member
    response: Response
    token: str | None


class Gateway:
    """The members of one cluster, of which one is used until it fails; the order is shuffled, so that the load spreads.

    Everything sent here may be sent again: leases that nobody renews end by themselves, and writes are compared first.
    """

    def __init__(self, members: Sequence[Member], *, login: Login | None, random: Random, clock: Clock) -> None:
        self._members = sorted(members, key=lambda _: random())
        self._current = self._members[0]
        self._login = login
        self._clock = clock

    @property
    def user(self) -> str:
        """Whom etcd takes us for; empty for nobody."""
        return self._login.user if self._login is not None else ""

    async def ask(self, path: str, body: Any, read: msgspec.json.Decoder[T], doing: str, **how: Any) -> T:
        """What a member answers; ``CallError`` when none can be reached, or one refuses."""
        return decoded(await self.send(path, body, doing, **how), read, doing, user=self.user)

    async def send(self, path: str, body: Any, doing: str, *, at: Member | None = None, leader: bool = True) -> Reply:
        """The answer of the first member that has one, be it a refusal; ``CallError`` when none has.

        ``at`` asks that one alone; ``leader=False`` also one that is cut off from the others.
        """
        data = _encode(body)
        ends = self._clock() + LIMIT
        member = at or self._current
        failures: list[tuple[Member, CallError]] = []
        for _ in (member,) if at is not None else self._members:
            left = ends - self._clock()
            if left < LEAST:
                break
            try:
                reply = await self._once(member, path, data, min(TIMEOUT, left), leader)
            except CallError as error:
                failures.append((member, error))
            else:
                if not reply.elsewhere:
                    return reply
                failures.append((member, refused(reply, doing, user=self.user)))
            member = self.leave(member)
        raise _nobody(failures, len(self._members) if at is None else 1, doing)

    async def open(self, path: str, body: Any, doing: str) -> Stream:
        """A stream from the member in use; ``CallError`` when it gives none."""
        member = self._current
        try:
            token = await self._token(member, TIMEOUT)
            response = await self._post(member, path, _encode(body), token, TIMEOUT, leader=True, stream=True)
        except CallError:
            self.leave(member)
            raise
        if response.status == 200:
            return Stream(member, response, token)
        await response.read()
        reply = reply_of(response)
        if reply.unknown_login:
            self.forget(token)
        if reply.elsewhere:
            self.leave(member)
        raise refused(reply, doing, user=self.user)

    def leave(self, member: Member) -> Member:
        """Use the next one from now on, unless somebody left this one before; returns the one after it."""
        after = self._members[(self._members.index(member) + 1) % len(self._members)]
        if self._current is member:
            self._current = after
        return after

    def forget(self, token: str | None) -> None:
        """etcd may not know ``token`` any more: log in again before the next request."""
        if self._login is not None and token is not None:
            self._login.forget(token)

    async def _once(self, member: Member, path: str, data: bytes, timeout: float, leader: bool) -> Reply:
        token = await self._token(member, timeout)
        reply = reply_of(await self._post(member, path, data, token, timeout, leader=leader))
        if token is not None and reply.code and reply.unknown_login:
            self.forget(token)
            token = await self._token(member, timeout)
            reply = reply_of(await self._post(member, path, data, token, timeout, leader=leader))
        return reply

    async def _token(self, member: Member, timeout: float) -> str | None:
        if self._login is None:
            return None
        return await self._login.token(partial(self._log_in, member, timeout))

    async def _log_in(self, member: Member, timeout: float, body: bytes) -> Reply:
        return reply_of(await self._post(member, LOGIN, body, None, timeout, leader=True))

    async def _post(
        self, member: Member, path: str, data: bytes, token: str | None, timeout: float, *, leader: bool, stream: bool = False
    ) -> Response:
        headers = Headers({"accept": "application/json", "content-type": "application/json"})
        if token:
            headers.add("authorization", token)
        if leader:
            # without it a member that is cut off from the others holds a watch open in silence, for the whole outage
            headers.add("grpc-metadata-hasleader", "true")
        now = self._clock()
        call = Call(idempotent=True, timeout=timeout, started=now, deadline=now + timeout)
        request = Request("POST", path, headers=headers, body=data, call=call)
        request.stream = stream
        response = await member.call(request)
        if not stream:
            await response.read()
        return response

    def describe(self) -> dict[str, object]:
        """Whom it asks."""
        return {"members": [each.name for each in self._members], "in_use": self._current.name, "user": self.user or None}

    def __repr__(self) -> str:
        return f"<Gateway {self._current.name} of {len(self._members)}>"


def _nobody(failures: list[tuple[Member, CallError]], members: int, doing: str) -> CallError:
    """Why no member could do it."""
    last = failures[-1][1]
    if members == 1:
        return last
    said = "; ".join(f"{member.name}: {_short(member, error)}" for member, error in failures)
    what = f"none of etcd's {members} members could do {doing} ({said})"
    if all(isinstance(error, ConnectFailed) for _, error in failures):
        return ConnectFailed(what, peer=PEER)
    return PeerError(what, peer=PEER, status=503)


def _short(member: Member, error: CallError) -> str:
    """Without what a list of members says already."""
    said = error.detail.removeprefix(f"cannot connect to {member.name}: ").replace(f" from etcd://{member.name}", "")
    return said.partition(": ")[2] if said.startswith("etcd answered ") else said
