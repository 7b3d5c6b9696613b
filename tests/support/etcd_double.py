"""etcd's JSON gateway, played: keys, leases, watches and users in memory, and the ways in which it fails, as switches.

``tests/contract/test_etcd.py`` runs one suite against it and against the real ones.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable
from typing import Any

from mizzen.words.errors import ConnectionLost
from mizzen.words.message import Request, Response

NO_LEADER = (14, 503, "etcdserver: no leader")
NO_TOKEN = (16, 401, "etcdserver: invalid auth token")
NO_USER = (3, 400, "etcdserver: user name is empty")
DENIED = (7, 403, "etcdserver: permission denied")
NO_LEASE = (5, 404, "etcdserver: requested lease not found")
NO_LOGIN = (3, 400, "etcdserver: authentication failed, invalid user ID or password")
AUTH_OFF = (9, 400, "etcdserver: authentication is not enabled")
Refusal = tuple[int, int, str]


class Refused(Exception):
    """A refusal on its way to the answer."""


class Key:
    def __init__(self, value: str, lease: str, created: int, modified: int) -> None:
        self.value = value
        self.lease = lease
        self.created = created
        self.modified = modified


class Watching:
    """One open watch; what goes into ``lines`` is sent, an exception ends it."""

    def __init__(self, start: str, end: str) -> None:
        self.start, self.end = start, end
        self.lines: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()


class EtcdDouble:
    """One member and its cluster. ``v1`` answers in the shapes of 3.4 and 3.5, else in those of 3.6."""

    def __init__(self, *, v1: bool = False) -> None:
        self.v1 = v1
        self.cluster_id, self.revision = "10144879847569953045", 1
        self.keys: dict[str, Key] = {}
        self.leases: dict[str, tuple[float, float]] = {}
        """id -> seconds, and when it ends on the loop's clock."""
        self.history: list[tuple[int, dict[str, Any]]] = []
        self.compacted = 0
        self.watches: list[Watching] = []
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.sent: list[Request] = []
        self.users: dict[str, str] = {}
        """Name -> password; empty where auth is off."""
        self.tokens: dict[str, str] = {}
        self.cut: Exception | None = None
        """Raised instead of an answer."""
        self.leader = True
        self.hung = False
        """Answers nothing, as a stopped process does."""
        self.answers: dict[str, Response | Callable[[], Response]] = {}
        """Path -> what is answered there instead."""
        self._last = 7587870000000000000

    # -- the gateway

    async def __call__(self, request: Request) -> Response:
        """The handler that drivers are handed."""
        assert request.method == "POST"
        assert isinstance(request.body, bytes)
        body = json.loads(request.body)
        self.requests.append((request.path, body))
        self.sent.append(request)
        await asyncio.sleep(0)  # an answer takes its time: others are asked meanwhile
        if self.cut is not None:
            raise self.cut
        if self.hung:
            assert request.call is not None
            await asyncio.sleep(request.call.timeout)
            from mizzen.words.errors import CallTimeout

            raise CallTimeout(f"no answer in {request.call.timeout}s", limit="call")
        if request.path in self.answers:
            answer = self.answers[request.path]
            return answer if isinstance(answer, Response) else answer()
        try:
            return self._answer(request, body)
        except Refused as refused:
            code, status, message = refused.args
            return self.refusal(code, status, message)

    def refusal(self, code: int, status: int, message: str) -> Response:
        """A unary refusal, in the shape of the version."""
        said = {"error": message, "code": code, "message": message} if self.v1 else {"code": code, "message": message}
        return Response.json_of(said, status)

    def _answer(self, request: Request, body: dict[str, Any]) -> Response:
        path = request.path
        if path == "/v3/auth/authenticate":
            return self._log_in(body)
        if not self.leader and not body.get("serializable"):
            raise Refused(*NO_LEADER)
        if path == "/v3/watch":
            return Response(200, self._watch(body["create_request"], request.headers.get("authorization") or ""))
        if path not in ("/v3/lease/keepalive", "/v3/lease/revoke"):
            self._admit(request)
        match path:
            case "/v3/kv/range":
                said = self._range(body)
            case "/v3/kv/txn":
                said = self._txn(body)
            case "/v3/lease/grant":
                self._last += 1
                self.leases[str(self._last)] = (float(body["TTL"]), 0.0)
                self._renew(str(self._last))
                said = {"ID": str(self._last), "TTL": body["TTL"]}
            case "/v3/lease/keepalive":
                found = {"TTL": str(round(self.leases[body["ID"]][0]))} if body["ID"] in self.leases else {}
                if found:
                    self._renew(body["ID"])
                line = {"result": {"header": self.header(), "ID": body["ID"], **found}}
                return Response(200, json.dumps(line, separators=(",", ":")).encode() + b"\n")
            case "/v3/lease/revoke":
                if body["ID"] not in self.leases:
                    raise Refused(*NO_LEASE)
                self.end_lease(body["ID"])
                said = {}
            case _:
                return Response(404, b"Not Found") if self.v1 else self.refusal(5, 404, "Not Found")
        return Response.json_of({"header": self.header(), **said})

    def header(self) -> dict[str, str]:
        return {"cluster_id": self.cluster_id, "member_id": "1", "revision": str(self.revision), "raft_term": "2"}

    # -- users

    def _log_in(self, body: dict[str, Any]) -> Response:
        if not self.users:
            raise Refused(*AUTH_OFF)
        if self.users.get(body["name"]) != body["password"]:
            raise Refused(*NO_LOGIN)
        token = f"token.{len(self.requests)}"
        self.tokens[token] = body["name"]
        return Response.json_of({"header": self.header(), "token": token})

    def _admit(self, request: Request) -> None:
        if not self.users:
            return
        token = request.headers.get("authorization")
        if not token:
            raise Refused(*NO_USER)
        if token not in self.tokens:
            raise Refused(*NO_TOKEN)

    # -- keys

    def put(self, key: str, value: str, lease: str = "0") -> None:
        """As an operator; both in plain text."""
        self._put(b64(key), b64(value), lease)

    def delete(self, key: str) -> None:
        self._delete(b64(key))

    def _put(self, key: str, value: str, lease: str) -> None:
        if lease != "0" and lease not in self.leases:
            raise Refused(*NO_LEASE)
        self.revision += 1
        before = self.keys.get(key)
        self.keys[key] = Key(value, lease, before.created if before else self.revision, self.revision)
        self._tell({"kv": self._kv(key)})

    def _delete(self, key: str) -> bool:
        if self.keys.pop(key, None) is None:
            return False
        self.revision += 1
        self._tell({"type": "DELETE", "kv": {"key": key, "mod_revision": str(self.revision)}})
        return True

    def _kv(self, key: str) -> dict[str, str]:
        found = self.keys[key]
        said = {"key": key, "create_revision": str(found.created), "mod_revision": str(found.modified), "version": "1"}
        return {**said, "value": found.value, **({"lease": found.lease} if found.lease != "0" else {})}

    def _range(self, body: dict[str, Any]) -> dict[str, Any]:
        first, end = body["key"], body.get("range_end", "")
        found = [key for key in sorted(self.keys, key=b64decode) if _within(key, first, end)]
        kvs = [self._kv(key) for key in found if self.keys[key].modified >= int(body.get("min_mod_revision", 0))]
        return {**({"kvs": kvs} if kvs else {}), **({"count": str(len(found))} if found else {})}

    def _txn(self, body: dict[str, Any]) -> dict[str, Any]:
        holds = all(self._holds(each) for each in body["compare"])
        responses = [self._op(each) for each in body.get("success" if holds else "failure", [])]
        return {**({"succeeded": True} if holds else {}), **({"responses": responses} if responses else {})}

    def _holds(self, compare: dict[str, str]) -> bool:
        key = self.keys.get(compare["key"])
        match compare["target"]:
            case "CREATE":
                return (key.created if key else 0) == int(compare["create_revision"])
            case "MOD":
                return (key.modified if key else 0) == int(compare["mod_revision"])
            case "LEASE":
                return key is not None and key.lease == compare["lease"]
        raise AssertionError(compare)

    def _op(self, op: dict[str, Any]) -> dict[str, Any]:
        [(name, body)] = op.items()
        if name == "request_range":
            return {"response_range": {"header": {"revision": str(self.revision)}, **self._range(body)}}
        if name == "request_put":
            self._put(body["key"], body["value"], body.get("lease", "0"))
            return {"response_put": {"header": {"revision": str(self.revision)}}}
        return {"response_delete_range": {"deleted": str(int(self._delete(body["key"])))}}

    # -- leases

    def _renew(self, lease: str) -> None:
        loop = asyncio.get_running_loop()
        seconds, _ = self.leases[lease]
        ends = loop.time() + seconds
        self.leases[lease] = (seconds, ends)
        loop.call_at(ends, self._expire, lease, ends)

    def _expire(self, lease: str, ends: float) -> None:
        if self.leases.get(lease, (0, 0))[1] == ends:
            self.end_lease(lease)

    def end_lease(self, lease: str) -> None:
        """It ends, and its keys with it."""
        del self.leases[lease]
        for key in [key for key, found in self.keys.items() if found.lease == lease]:
            self._delete(key)

    # -- watches

    def _tell(self, event: dict[str, Any]) -> None:
        self.history.append((self.revision, event))
        for watch in self.watches:
            if _within(event["kv"]["key"], watch.start, watch.end):
                watch.lines.put_nowait(self.line(events=[event]))

    def line(self, **said: Any) -> bytes:
        """A message on a watch."""
        return json.dumps({"result": {"header": self.header(), **said}}, separators=(",", ":")).encode() + b"\n"

    def trouble(self, code: int = 14, message: str = "etcdserver: no leader") -> bytes:
        """What a watch ends with."""
        code_name = "grpc_code" if self.v1 else "code"
        more = {"http_code": 503, "http_status": "Service Unavailable"} if self.v1 else {}
        return json.dumps({"error": {code_name: code, "message": message, **more}}, separators=(",", ":")).encode()

    def end_watches(self, with_line: bytes | None = None) -> None:
        """End every watch, after that line."""
        for watch in self.watches:
            if with_line is not None:
                watch.lines.put_nowait(with_line)
            watch.lines.put_nowait(None)
        self.watches = []

    def lose_watches(self) -> None:
        """Their connections break."""
        for watch in self.watches:
            watch.lines.put_nowait(ConnectionLost("reset by the peer"))
        self.watches = []

    def forget_watches(self) -> list[Watching]:
        """They stay open, and hear of nothing any more."""
        watches, self.watches = self.watches, []
        return watches

    async def _watch(self, create: dict[str, Any], token: str) -> AsyncIterator[bytes]:
        if self.users and token not in self.tokens:
            why = DENIED[2] if self.v1 else NO_TOKEN[2]
            yield self.line(created=True, canceled=True, cancel_reason=f"rpc error: code = … desc = {why}")
            return
        start = int(create.get("start_revision", self.revision + 1))
        yield self.line(created=True)
        if start <= self.compacted:
            yield self.line(canceled=True, compact_revision=str(self.compacted))
            return
        watch = Watching(create["key"], create["range_end"])
        missed = [event for at, event in self.history if at >= start and _within(event["kv"]["key"], watch.start, watch.end)]
        if missed:
            watch.lines.put_nowait(self.line(events=missed))
        self.watches.append(watch)
        try:
            while (line := await watch.lines.get()) is not None:
                if isinstance(line, Exception):
                    raise line
                yield line
        finally:
            if watch in self.watches:
                self.watches.remove(watch)

    def compact(self) -> None:
        """Forget everything before now."""
        self.compacted = self.revision
        self.history = []

    # -- its life

    def lose_state(self) -> None:
        """Start again with nothing."""
        self.keys, self.leases, self.history = {}, {}, []
        self.revision, self.compacted = 1, 0
        self.tokens = {}


def _within(key: str, first: str, end: str) -> bool:
    if not end:
        return key == first
    return b64decode(first) <= b64decode(key) < b64decode(end)


def b64(text: str) -> str:
    return b64encode(text.encode()).decode()
