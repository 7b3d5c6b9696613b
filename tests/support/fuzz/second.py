"""A second opinion: what h11 reads in the same bytes. It is too lenient to judge alone; where both accept, both must agree."""

from __future__ import annotations

import h11

from .judge import Message

MOST = 16
"""Messages of one stream that are asked for."""


def requests(data: bytes) -> list[Message]:
    """The whole requests that h11 finds, up to the first it refuses."""
    found: list[Message] = []
    while data and len(found) < MOST:
        line = h11.Connection(h11.SERVER)
        message = Message()
        try:
            line.receive_data(data)
            if not _read(line, message):
                break
        except h11.RemoteProtocolError:
            break
        found.append(message)
        if line.their_state is h11.MUST_CLOSE:
            break
        data = bytes(line.trailing_data[0])
    return found


def answer(data: bytes, method: str, *, ended: bool) -> Message | None:
    """The whole answer that h11 finds; ``ended`` when the connection ends after these bytes."""
    line = h11.Connection(h11.CLIENT)
    line.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    line.send(h11.EndOfMessage())
    message = Message()
    try:
        line.receive_data(data)
        if not _read(line, message):
            if not ended:
                return None
            line.receive_data(b"")
            if not _read(line, message):
                return None
    except h11.RemoteProtocolError:
        return None
    return message


def _read(line: h11.Connection, message: Message) -> bool:
    """Whether a whole message came."""
    while True:
        event = line.next_event()
        match event:
            case h11.Request():
                message.start, message.target = bytes(event.method), bytes(event.target)
                message.fields = [(bytes(name), bytes(value)) for name, value in event.headers]
            case h11.Response():
                message.start = b"%d" % event.status_code
                message.fields = [(bytes(name), bytes(value)) for name, value in event.headers]
            case h11.Data():
                message.body += bytes(event.data)
            case h11.EndOfMessage():
                return True
            case h11.InformationalResponse():
                continue
            case _:
                return False
