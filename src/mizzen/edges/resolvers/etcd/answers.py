"""Answers: what etcd's JSON gateway says, in the forms of 3.4 (grpc-gateway v1) to 3.6 (v2).

64-bit numbers are strings, zero values are left out, keys and values are base64. A refusal is flat where one answer was
asked for and nested where a stream was; 3.6 leaves ``error`` out of the flat one and calls the nested code ``code``.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from mizzen.words.errors import PeerError
from mizzen.words.message import Response

PEER = "etcd"
INVALID, NOT_FOUND, DENIED, UNAVAILABLE, UNAUTHENTICATED = 3, 5, 7, 14, 16
"""gRPC's codes, as far as they mean something here."""

_NO_LEASE = "requested lease not found"
# what a member says whose idea of us is out of date: a new token mends each of them
_LOGIN = ("invalid auth token", "user name is empty", "revision of auth store is old")
_OFF = "authentication is not enabled"

T = TypeVar("T")


class Header(msgspec.Struct):
    """Which cluster answered, and how far it was."""

    cluster_id: str = ""
    revision: int = 0


class KeyValue(msgspec.Struct):
    """One key; ``key`` and ``value`` stay base64 until somebody needs them."""

    key: str
    value: str = ""
    mod_revision: int = 0
    lease: int = 0


class Range(msgspec.Struct):
    """What ``/v3/kv/range`` answers."""

    header: Header = msgspec.field(default_factory=Header)
    kvs: list[KeyValue] = []
    count: int = 0


class Reply(msgspec.Struct, frozen=True):
    """One answer of one member, whatever it says."""

    status: int
    code: int
    """0 for an answer, gRPC's code for a refusal; -1 where whoever answered is no gateway of etcd's."""
    message: str
    body: bytes

    @property
    def elsewhere(self) -> bool:
        """Whether another member may do better: this one has no leader, is stopping, or is not what it should be."""
        return self.code == UNAVAILABLE or self.status >= 500 or self.code == -1

    @property
    def unknown_login(self) -> bool:
        """Whether a new token would mend it."""
        return self.code == UNAUTHENTICATED or self.status == 401 or any(each in self.message for each in _LOGIN)

    @property
    def login_off(self) -> bool:
        """Whether etcd asks nobody who they are."""
        return _OFF in self.message

    @property
    def no_lease(self) -> bool:
        return self.code == NOT_FOUND and _NO_LEASE in self.message


class Trouble(msgspec.Struct):
    """A refusal inside a stream."""

    message: str = ""
    code: int = 0
    grpc_code: int = 0
    http_code: int = 0


class _Refusal(msgspec.Struct):
    code: int = 0
    message: str = ""
    error: Trouble | str | None = None


_refusal = msgspec.json.Decoder(_Refusal, strict=False).decode


def reply_of(response: Response) -> Reply:
    """What a whole answer says."""
    body = response.body if isinstance(response.body, bytes) else b""
    if response.status == 200 and not body.startswith(b'{"error"'):
        return Reply(200, 0, "", body)
    try:
        said = _refusal(body)
    except (ValueError, RecursionError):
        return Reply(response.status, -1, body[:200].decode("utf-8", "replace").strip(), body)
    nested = said.error if isinstance(said.error, Trouble) else None
    code = said.code or (nested.grpc_code or nested.code if nested else 0)
    message = said.message or (nested.message if nested else said.error if isinstance(said.error, str) else "")
    if not code or (code == NOT_FOUND and message == "Not Found"):  # 3.6 says so of a path that it does not have
        code = -1
    return Reply(response.status, code, message, body)


def refused(reply: Reply, doing: str, *, user: str = "") -> PeerError:
    """The error that a refusal is."""
    who = f"etcd's user {user}" if user else "whoever shows no user"
    hint = ""
    if reply.code == -1 and reply.status == 404:
        hint = "; its JSON gateway is off (--enable-grpc-gateway), or this is not etcd 3.4 or later"
    elif reply.code == DENIED:
        hint = f"; {who} may not: etcdctl role grant-permission <role> --prefix=true readwrite <prefix>"
    elif reply.unknown_login and not user:
        hint = "; it asks for a user: etcd://user@…, with the password in discovery.token or token_file"
    return PeerError(
        f"etcd answered {reply.status} to {doing}: {reply.message or 'nothing'}{hint}",
        peer=PEER,
        status=reply.status,
        body=reply.body,
    )


def decoder(into: type[T]) -> msgspec.json.Decoder[T]:
    """Reads an ``into``; etcd writes its numbers as strings."""
    return msgspec.json.Decoder(into, strict=False)


def decoded(reply: Reply, read: msgspec.json.Decoder[T], doing: str, *, user: str = "") -> T:
    """The answer; ``PeerError`` for a refusal, and for what does not come from etcd."""
    if reply.code:
        raise refused(reply, doing, user=user)
    try:
        return read.decode(reply.body)
    except (ValueError, RecursionError) as error:  # of msgspec, and for bytes that are no text
        raise PeerError(f"the answer to {doing} does not come from etcd ({error})", peer=PEER, status=reply.status) from None
