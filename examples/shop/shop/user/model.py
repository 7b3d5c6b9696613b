"""What a user is, on the wire."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

LARGEST = 2**31 - 1
"""The largest id: what an INTEGER column holds."""

Id = Annotated[int, Meta(ge=0, le=LARGEST)]
Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f]*\Z")]
Email = Annotated[str, Meta(pattern=r"^[^@\x00-\x20]+@[^@\x00-\x20]+\Z", max_length=200)]
Limit = Annotated[int, Meta(ge=1, le=100)]
Offset = Annotated[int, Meta(ge=0, le=LARGEST)]


class NewUser(Struct):
    """What a caller says about a user."""

    name: Name
    email: Email


class User(Struct):
    """A user that exists."""

    id: int
    name: str
    email: str


class Page(Struct):
    """A part of all users, by id."""

    items: list[User]
    total: int
    limit: int
    offset: int
