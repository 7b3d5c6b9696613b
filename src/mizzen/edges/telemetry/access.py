"""The access line: one JSON object per answered request, formatted directly because every request pays for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from mizzen.words.clock import Clock
from mizzen.words.context import Context

LOGGER = "mizzen.access"
LONGEST_PATH = 1000
"""Characters of a path that are logged: the path stands in the line twice, and the line should fit a pipe's 4096 bytes."""

_encode = msgspec.json.Encoder().encode


class Access(Protocol):
    """Logs one answered request; ``path`` is without its query, ``seconds`` is how long the answer took."""

    def __call__(
        self,
        context: Context,
        method: str,
        route: str,
        path: str,
        status: int,
        seconds: float,
        sent_bytes: int,
        peer: str,
        /,
    ) -> None: ...


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
    errors_only: bool = False,
    wall: Clock = time.time,
) -> Access:
    """An access log that writes JSON lines; with ``errors_only`` just the answers of 500 and more."""
    head = (
        f'","logger":"{LOGGER}","service":"{escape(service)}","version":"{escape(version)}",'
        f'"instance":"{escape(instance)}","trace_id":"'
    )
    routes: dict[str, str] = {}
    second, prefix = -2, ""

    def access(
        context: Context, method: str, route: str, path: str, status: int, seconds: float, sent_bytes: int, peer: str
    ) -> None:
        nonlocal second, prefix
        if errors_only and status < 500:
            return
        now = wall()
        part = now - second
        if not 0 <= part < 1:
            second = int(now)
            part = now - second
            prefix = time.strftime('{"time":"%Y-%m-%dT%H:%M:%S.', time.gmtime(second))
        if len(path) > LONGEST_PATH:
            path = path[:LONGEST_PATH] + "..."
        given = f"{path}{method}{peer}"  # all that a caller chooses, looked at in one go
        if not (given.isascii() and given.isprintable()) or '"' in given or "\\" in given:
            path, method, peer = escape(path), escape(method), escape(peer)
        template = routes.get(route)
        if template is None:
            template = escape(route)
            if len(routes) < 4096:  # routes are templates and few; whoever passes paths must not fill the memory
                routes[route] = template
        write(
            # A "%06d" of a float costs a third of what the same costs as a format specification.
            f'{prefix}{"%06d" % (part * 1e6)}Z","level":"{"info" if status < 500 else "error"}",'  # noqa: UP031
            f'"message":"{method} {path} {status}{head}{context.trace_id}","span_id":"{context.span_id}",'
            f'"method":"{method}","route":"{template}","path":"{path}","status":{status},'
            f'"duration_ms":{seconds * 1000:.3f},"bytes":{sent_bytes},"peer":"{peer}"}}\n'.encode()
        )

    return access
