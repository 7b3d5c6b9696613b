"""The access line: one JSON object per answered request, formatted directly because every request pays for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from mizzen.words.clock import Clock
from mizzen.words.message import Request

LOGGER = "mizzen.access"
UNMATCHED = "unmatched"
"""The route of whatever no route matches: no label and no line ever carries a raw path for it."""
LONGEST_PATH = 1000
"""Characters of a path that are logged: the path stands in the line twice, and the line should fit a pipe's 4096 bytes."""

MOST_TEXTS = 4096
"""Combinations of method, route and status that are remembered: methods are a caller's invention, and must not fill
the memory."""

_encode = msgspec.json.Encoder().encode
_Texts = tuple[str, str, str, str]
"""What all lines of one method, route and status say, between the parts that differ."""


class Access(Protocol):
    """Logs one answered request, which has a context: how long its answer took, and how many bytes of body it had."""

    def __call__(self, request: Request, status: int, seconds: float, sent: int, /) -> None: ...


def escape(text: str) -> str:
    """Text as it stands between the quotes of a JSON string."""
    try:
        return _encode(text)[1:-1].decode()
    except UnicodeEncodeError:  # a lone surrogate: show its number
        return _encode(text.encode("utf-8", "backslashreplace").decode())[1:-1].decode()


def json_access(
    write: Callable[[bytes], None],
    *,
    service: str,
    version: str,
    instance: str,
    worker: int | None = None,
    errors_only: bool = False,
    wall: Clock = time.time,
) -> Access:
    """An access log that writes JSON lines; with ``errors_only`` just the answers of 500 and more."""
    number = "" if worker is None else f'"worker":{worker},'
    head = (
        f'","logger":"{LOGGER}","service":"{escape(service)}","version":"{escape(version)}",'
        f'"instance":"{escape(instance)}",{number}"trace_id":"'
    )
    texts: dict[tuple[str, str, int], _Texts] = {}
    second, prefix = -2, ""

    def access(request: Request, status: int, seconds: float, sent: int) -> None:
        nonlocal second, prefix
        if errors_only and status < 500:
            return
        key = request.method, request.route, status
        opening, said, matched, ended = texts.get(key) or _remember(texts, key, head)
        now = wall()
        part = now - second
        if not 0 <= part < 1:
            second = int(now)
            part = now - second
            prefix = time.strftime('{"time":"%Y-%m-%dT%H:%M:%S.', time.gmtime(second))
        path, peer = request.path, request.peer
        if len(path) > LONGEST_PATH:
            path = path[:LONGEST_PATH] + "..."
        given = path + peer  # what a caller chooses, looked at in one go
        if not (given.isascii() and given.isprintable()) or '"' in given or "\\" in given:
            path, peer = escape(path), escape(peer)
        context: Any = request.context
        # A join costs two thirds of what the same costs as one literal, and "%" a third of a format specification.
        parts = (
            prefix, "%06d" % (part * 1e6), opening, path, said, context.trace_id, '","span_id":"', context.span_id,  # noqa: UP031  # see above
            matched, path, ended, "%.3f" % (seconds * 1000), ',"bytes":', str(sent), ',"peer":"', peer, '"}\n',
        )  # fmt: skip
        write("".join(parts).encode())

    return access


def _remember(texts: dict[tuple[str, str, int], _Texts], key: tuple[str, str, int], head: str) -> _Texts:
    method, route, status = escape(key[0]), escape(key[1] or UNMATCHED), key[2]
    text = (
        f'Z","level":"{"info" if status < 500 else "error"}","message":"{method} ',
        f" {status}{head}",
        f'","method":"{method}","route":"{route}","path":"',
        f'","status":{status},"duration_ms":',
    )
    if len(texts) < MOST_TEXTS:
        texts[key] = text
    return text
