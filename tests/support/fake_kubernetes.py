"""An API server that a test plays: EndpointSlices in memory, listed and watched as Kubernetes does.

``tests/contract/test_kubernetes.py`` holds it to what the real one does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

from mizzen.words.errors import CallTimeout, ConnectionLost
from mizzen.words.message import Request, Response

Answer = Response | Exception | None
"""What the next request gets: an answer, an error on the way, or None for silence until its time is over."""


class FakeKubernetes:
    """One namespace. ``call`` is the handler to it; ``requests`` are all that came."""

    def __init__(self, namespace: str = "shop") -> None:
        self.path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        self.requests: list[Request] = []
        self.tokens: set[str] | None = None
        """Those it accepts; None for anybody."""
        self.answers: list[Answer] = []
        """What the next requests get instead."""
        self.version = 100
        self.compacted = 0
        """The latest version from which no watch can begin any more."""
        self.bookmarks = True
        self.timeouts = True
        """Whether it ends watches when they asked to."""
        self._slices: dict[str, dict[str, Any]] = {}
        self._events: list[tuple[int, dict[str, Any], dict[str, str]]] = []
        self._watchers: set[_Watcher] = set()

    # -- what is asked

    async def call(self, request: Request) -> Response:
        self.requests.append(request)
        if self.answers:
            answer = self.answers.pop(0)
            if answer is None:
                assert request.call is not None
                await asyncio.sleep(request.call.timeout)
                raise CallTimeout("no answer from kubernetes", peer="kubernetes", limit="call")
            if isinstance(answer, Exception):
                raise answer
            assert isinstance(answer, Response)
            return answer
        token = (request.headers.get("authorization") or "").removeprefix("Bearer ")
        if self.tokens is not None and token not in self.tokens:
            return status(401, "Unauthorized", "Unauthorized")
        if request.path != self.path:
            return Response(404, b"404 page not found\n")
        query = {name: values[0] for name, values in parse_qs(request.query).items()}
        selector = dict([query["labelSelector"].split("=")]) if "labelSelector" in query else {}
        version = query.get("resourceVersion", "")
        return self._watch(query, selector, int(version)) if "watch" in query else self._list(query, selector, version)

    def _list(self, query: Mapping[str, str], selector: Mapping[str, str], version: str) -> Response:
        if query.get("resourceVersionMatch") == "NotOlderThan" and int(version) > self.version:
            details = {"causes": [{"reason": "ResourceVersionTooLarge", "message": "…"}], "retryAfterSeconds": 1}
            return status(504, "Timeout", f"Timeout: Too large resource version: {version}", details=details)
        found = [each for name, each in sorted(self._slices.items()) if _matches(each, selector)]
        first = int(query.get("continue", "0"))
        metadata: dict[str, Any] = {"resourceVersion": str(self.version)}
        if version != "0" and len(found) > first + int(query["limit"]):
            metadata["continue"] = str(first + int(query["limit"]))
            found = found[first : first + int(query["limit"])]
        else:
            found = found[first:]
        return Response.json_of({"kind": "EndpointSliceList", "metadata": metadata, "items": found})

    def _watch(self, query: Mapping[str, str], selector: Mapping[str, str], version: int) -> Response:
        if version < self.compacted:
            return Response(
                200, _once({"type": "ERROR", "object": _status(410, "Expired", f"too old resource version: {version}")})
            )
        watcher = _Watcher(selector, version, self.bookmarks, self.version)
        for event in self._events:
            watcher.offer(*event)
        self._watchers.add(watcher)
        ended = self._watchers.discard
        seconds = float(query["timeoutSeconds"]) if self.timeouts else None
        response = Response(200, watcher.run(seconds, lambda: ended(watcher)))
        response.on_close(lambda: ended(watcher))
        return response

    # -- what happens

    def write(self, slice: Mapping[str, Any]) -> None:
        """Write a slice, new or in place of the one of that name."""
        name = slice["metadata"]["name"]
        self._happens("MODIFIED" if name in self._slices else "ADDED", json.loads(json.dumps(slice)))

    def remove(self, name: str) -> None:
        self._happens("DELETED", self._slices[name])

    def _happens(self, type: str, slice: dict[str, Any]) -> None:
        self.version += 1
        slice = {**slice, "metadata": {**slice["metadata"], "resourceVersion": str(self.version)}}
        name, labels = slice["metadata"]["name"], slice["metadata"].get("labels", {})
        if type == "DELETED":
            del self._slices[name]
        else:
            self._slices[name] = slice
        event = (self.version, {"type": type, "object": slice}, labels)
        self._events.append(event)
        for watcher in self._watchers:
            watcher.offer(*event)

    def tell(self, event: Mapping[str, Any]) -> None:
        """Say that in every watch."""
        for watcher in self._watchers:
            watcher.say(event)

    def bookmark(self) -> None:
        """Tell every watch the version, which went on meanwhile."""
        self.version += 5
        for watcher in self._watchers:
            watcher.bookmark(self.version)

    def compact(self) -> None:
        """Forget every version but the present one."""
        self.version += 1
        self.compacted = self.version
        self._events.clear()

    def cut(self) -> None:
        """Reset every watch."""
        for watcher in list(self._watchers):
            watcher.fail(ConnectionLost("connection reset by peer", peer="kubernetes"))

    def end(self) -> None:
        """End every watch in order, as a server that is told to stop does."""
        for watcher in list(self._watchers):
            watcher.end()

    def forget(self, version: int = 10) -> None:
        """Lose all state: versions begin anew, and whoever watches from a later one hears nothing."""
        self._slices.clear()
        self._events.clear()
        self._watchers.clear()
        self.version, self.compacted = version, 0

    @property
    def watches(self) -> int:
        return len(self._watchers)

    def asked(self, what: str) -> list[dict[str, str]]:
        """The queries of all lists, or of all watches, that came."""
        queries = [{name: values[0] for name, values in parse_qs(each.query).items()} for each in self.requests]
        return [query for query in queries if ("watch" in query) is (what == "watch")]


class _Watcher:
    def __init__(self, selector: Mapping[str, str], version: int, bookmarks: bool, now: int) -> None:
        self._selector = selector
        self._version = version
        self._told = max(version, now)
        self._bookmarks = bookmarks
        self._queue: asyncio.Queue[bytes | Exception] = asyncio.Queue()

    def offer(self, version: int, event: Mapping[str, Any], labels: Mapping[str, str]) -> None:
        if version > self._version:
            self._told = version
            if all(labels.get(name) == value for name, value in self._selector.items()):
                self.say(event)

    def say(self, event: Mapping[str, Any]) -> None:
        self._queue.put_nowait(json.dumps(event).encode() + b"\n")

    def bookmark(self, version: int) -> None:
        if self._bookmarks and version > self._version:
            self._told = version
            self.say({"type": "BOOKMARK", "object": {"kind": "EndpointSlice", "metadata": {"resourceVersion": str(version)}}})

    def fail(self, error: Exception) -> None:
        self._queue.put_nowait(error)

    def end(self) -> None:
        self._queue.put_nowait(b"")

    async def run(self, seconds: float | None, ended: Callable[[], None]) -> AsyncIterator[bytes]:
        try:
            async with asyncio.timeout(seconds):
                while line := await self._queue.get():
                    if isinstance(line, Exception):
                        raise line
                    half = len(line) // 2  # pieces end where they like
                    yield line[:half]
                    yield line[half:]
        except TimeoutError:
            pass
        finally:
            ended()


def _matches(slice: Mapping[str, Any], selector: Mapping[str, str]) -> bool:
    labels = slice["metadata"].get("labels", {})
    return all(labels.get(name) == value for name, value in selector.items())


async def _once(event: Mapping[str, Any]) -> AsyncIterator[bytes]:
    yield json.dumps(event).encode() + b"\n"


def _status(code: int, reason: str, message: str, details: Any = None) -> dict[str, Any]:
    return {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message, "details": details}


def status(code: int, reason: str, message: str, *, details: Any = None, headers: Mapping[str, str] | None = None) -> Response:
    """How an API server says no."""
    answer = Response.json_of(_status(code, reason, message, details), code)
    for name, value in (headers or {}).items():
        answer.headers.set(name, value)
    return answer
