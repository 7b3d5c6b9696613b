"""Query parameters: those that are known are read, every other one is refused."""

from __future__ import annotations

from urllib.parse import parse_qsl

import msgspec

from mizzen.words.clock import parse_duration

from .model import DATACENTER
from .refusal import Refusal, unsupported

WAIT, WAIT_MOST = 300.0, 600.0
"""Seconds that a query waits by default, and at most; Consul's."""

READING = ("dc", "stale", "consistent", "cached", "index", "wait", "pretty")
"""What every read takes. One node is always consistent, so the three modes answer alike."""


class Query:
    """The parameters of one request, of which only ``allowed`` may stand there."""

    def __init__(self, text: str, allowed: tuple[str, ...]) -> None:
        try:
            self._pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=50, errors="strict")
        except ValueError:
            raise Refusal(400, "the query string cannot be read") from None
        for name, _ in self._pairs:
            if name not in allowed:
                takes = ", ".join(sorted(allowed)) or "none"
                raise unsupported(f"the query parameter {name!r} here (it takes {takes})", 400)

    def text(self, name: str, default: str = "") -> str:
        return next((value for key, value in self._pairs if key == name), default)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self._pairs if key == name]

    def flag(self, name: str) -> bool:
        """Whether it is on; standing there without a value is on."""
        if name not in (key for key, _ in self._pairs):
            return False
        value = self.text(name).lower()
        if value in ("", "1", "t", "true"):
            return True
        if value in ("0", "f", "false"):
            return False
        raise Refusal(400, f"Invalid value for ?{name}: {value!r} (expected true or false)")


class Block(msgspec.Struct, frozen=True):
    """How a read may wait: until the index is above ``index``, at most ``wait`` seconds; 0 does not wait."""

    index: int
    wait: float


def mode(query: Query) -> str:
    """Which consistency a read asks for; a `Refusal` for two at once."""
    if query.flag("stale") and query.flag("consistent"):
        raise Refusal(400, "Cannot specify ?stale with ?consistent, conflicting semantics.")
    if query.flag("cached") and query.flag("consistent"):
        raise Refusal(400, "Cannot specify ?cached with ?consistent, conflicting semantics.")
    return "consistent" if query.flag("consistent") else "stale" if query.flag("stale") else "leader"


def blocking(query: Query) -> Block:
    """What a read's common parameters ask for; a `Refusal` says what is wrong with them."""
    same_datacenter(query.text("dc"))
    text = query.text("index") or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise Refusal(400, f"Invalid index: {text!r}")
    return Block(int(text), wait_of(query))


def same_datacenter(name: str) -> None:
    """Refuse every datacenter but the one there is."""
    if name not in ("", DATACENTER):
        raise Refusal(500, f"No path to datacenter {name!r}: the embedded registry has {DATACENTER} alone")


def wait_of(query: Query) -> float:
    """Seconds that a query may wait."""
    try:
        wait = parse_duration(query.text("wait")) if query.text("wait") else WAIT
    except ValueError as error:
        raise Refusal(400, f"Invalid wait time: {error}") from None
    return min(wait or WAIT, WAIT_MOST)
