"""JSON, as bodies are written and read everywhere: by msgspec, with pydantic models wherever they stand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_origin

import msgspec


def _builtins(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"a {type(value).__name__} cannot be written as JSON")
    return dump(mode="json", by_alias=True)


encode: Callable[[Any], bytes] = msgspec.json.Encoder(enc_hook=_builtins).encode
"""The JSON of a value; ``TypeError`` for one that has none."""


def write(value: Any) -> bytes:
    """The same, by the value's own means where it is a pydantic model: faster, and its serializers are heeded."""
    dump = getattr(value, "model_dump_json", None)
    # by_alias: a model reads its aliases, so it has to write them or no client could read it back
    return encode(value) if dump is None else dump(by_alias=True).encode()


def reader(into: Any) -> Callable[[bytes], Any]:
    """What makes an ``into`` of JSON, compiled once; it raises a ``ValueError`` for what does not fit."""
    if not validates_itself(into):
        return msgspec.json.Decoder(into, dec_hook=validate).decode
    own: Callable[[bytes], Any] = getattr(into, "model_validate_json", None) or into.__pydantic_validator__.validate_json
    return own


def read(data: bytes, into: Any) -> Any:
    """An ``into`` of JSON, once; raises what :func:`reader`'s does."""
    if validates_itself(into):
        return reader(into)(data)
    return msgspec.json.decode(data, type=into, dec_hook=validate)


def validates_itself(into: Any) -> bool:
    """Whether ``into`` is a type that validates by its own means, as pydantic's models and dataclasses do."""
    return isinstance(into, type) and (hasattr(into, "model_validate") or hasattr(into, "__pydantic_validator__"))


def validate(into: Any, value: object) -> Any:
    """Make ``value`` an ``into`` by its own means: a ``dec_hook`` for msgspec.

    Raises the type's own ``ValueError`` when the value does not fit, ``NotImplementedError`` when the type has no means.
    """
    if isinstance(value, get_origin(into) or into):
        return value
    if not validates_itself(into):
        raise NotImplementedError(f"{into!r} says no way to make one from JSON")
    method = getattr(into, "model_validate", None) or into.__pydantic_validator__.validate_python
    return method(value)
