"""Server-sent events: what a stream of them is made of (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from .json import write
from .message import Response

EVENT_STREAM = b"text/event-stream"
"""The media type of such a stream."""
PING = b":\n"
"""A comment, which every reader ignores: it keeps whoever watches the connection from taking it for dead. An empty line
after it would end an event that its source has sent half of."""
PING_EVERY = 15.0
"""Seconds without an event after which a comment is sent (the HTML standard's advice against proxies that close what is
idle)."""


def is_events(response: Response) -> bool:
    """Whether an answer is a stream of server-sent events."""
    return any(name == b"content-type" and value.startswith(EVENT_STREAM) for name, value in response.headers.raw)


def is_coded(response: Response) -> bool:
    """Whether its body is compressed or otherwise coded, so that no comment can be put between its events."""
    return any(name == b"content-encoding" for name, _ in response.headers.raw)


class ServerSentEvent(Struct, frozen=True, kw_only=True):
    """One event of a stream: yield it from a handler that returns ``AsyncIterator[ServerSentEvent]``."""

    data: Any = ""
    """Text as it is, anything else as JSON."""
    event: str = ""
    """What kind of event it is; readers take it for ``message`` without."""
    id: str | None = None
    """Where a reader that connects again says it was, in ``last-event-id``."""
    retry: float | None = None
    """Seconds after which a reader connects again when the stream ends."""

    def encode(self) -> bytes:
        """The event as bytes; ``ValueError`` for a line break where one would begin another field."""
        lines = []
        for name, value in (("event", self.event or None), ("id", self.id)):
            if value is not None:
                if "\n" in value or "\r" in value or "\0" in value:
                    raise ValueError(f"the {name} of a server-sent event is one line, not {value!r}")
                lines.append(f"{name}: {value}")
        if self.retry is not None:
            lines.append(f"retry: {round(self.retry * 1000)}")
        data = self.data if isinstance(self.data, str) else write(self.data).decode()
        lines += [f"data: {line}" for line in data.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
        return "\n".join([*lines, "", ""]).encode()
