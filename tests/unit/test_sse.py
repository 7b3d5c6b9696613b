"""Server-sent events as bytes."""

from __future__ import annotations

import pytest

from mizzen import ServerSentEvent


@pytest.mark.parametrize(
    ("event", "written"),
    [
        (ServerSentEvent(data="hello"), b"data: hello\n\n"),
        (ServerSentEvent(data={"id": 7}), b'data: {"id":7}\n\n'),
        (ServerSentEvent(data="two\r\nlines\rand a third\n"), b"data: two\ndata: lines\ndata: and a third\ndata: \n\n"),
        (ServerSentEvent(data="x", event="sold", id="7", retry=1.5), b"event: sold\nid: 7\nretry: 1500\ndata: x\n\n"),
        (ServerSentEvent(id=""), b"id: \ndata: \n\n"),
    ],
)
def test_an_event_is_its_fields_and_an_empty_line(event: ServerSentEvent, written: bytes) -> None:
    """Text goes as it is, line by line, anything else as JSON."""
    assert event.encode() == written


@pytest.mark.parametrize("field", ["event", "id"])
@pytest.mark.parametrize("broken", ["a\nb", "a\rb", "a\0b"])
def test_a_name_or_id_cannot_begin_another_field(field: str, broken: str) -> None:
    """A value that somebody chose must not become an event of its own."""
    with pytest.raises(ValueError, match=f"the {field} of a server-sent event is one line"):
        ServerSentEvent(**{field: broken}).encode()
