"""Bodies: Consul's JSON read field by field, and a refusal for every field that would mean nothing here."""

from __future__ import annotations

from typing import Any

import msgspec

from mizzen.words.clock import parse_duration

from .model import STATUSES
from .refusal import Refusal, unsupported

BODY = 65_536
"""Bytes of a request; a registration has some hundred."""


def decoded(body: bytes) -> Any:
    """The body as JSON."""
    if len(body) > BODY:
        raise Refusal(413, f"Request body too large, max size: {BODY} bytes")
    try:
        return msgspec.json.decode(body)
    except msgspec.MsgspecError as error:
        raise Refusal(400, f"Request decode failed: {error}") from None
    except RecursionError:
        raise Refusal(400, "Request decode failed: it is nested too deep") from None


class Fields:
    """The fields by their name in small letters: Consul takes ``ServiceID``, ``serviceID`` and ``service_id`` alike."""

    def __init__(self, value: Any, known: set[str] | None, what: str) -> None:
        """``known`` is None where the fields only say which one is meant, and the rest of it changes nothing."""
        if not isinstance(value, dict):
            raise Refusal(400, f"Request decode failed: expected {what} as an object")
        self._given: dict[str, Any] = {}
        for key, each in value.items():
            name = key.lower().replace("_", "")
            if known is None or name in known:
                self._given[name] = each
            elif each not in (None, "", 0, False, [], {}):  # clients send empty fields of all sorts, and mean nothing
                raise unsupported(f"{key} in {what}", 400)

    def __contains__(self, name: str) -> bool:
        """Whether it is there and not empty."""
        return bool(self._given.get(name))

    def typed(self, name: str, into: Any, default: Any) -> Any:
        """The field as that type, ``default`` where it is absent or null; a `Refusal` names one that does not fit."""
        if self._given.get(name) is None:
            return default
        try:
            return msgspec.convert(self._given[name], into)
        except msgspec.ValidationError as error:
            raise Refusal(400, f"Request decode failed: {name}: {error}") from None

    def text(self, name: str) -> str:
        return str(self.typed(name, str, ""))

    def flag(self, name: str) -> bool:
        return bool(self.typed(name, bool, False))

    def number(self, name: str, default: int = 0, *, most: int = 1_000_000) -> int:
        number = int(self.typed(name, int, default))
        if not 0 <= number <= most:
            raise Refusal(400, f"Request decode failed: {name}: expected 0 to {most}, got {number}")
        return number

    def seconds(self, name: str) -> float:
        text = self.text(name)
        try:
            return parse_duration(text) if text else 0.0
        except ValueError as error:
            raise Refusal(400, f"Request decode failed: {name}: {error}") from None

    def status(self, default: str = "") -> str:
        """The status of a check."""
        text = self.text("status") or default
        if text not in STATUSES:
            raise Refusal(400, f"Invalid check status: {text!r} (expected {', '.join(STATUSES)})")
        return text
