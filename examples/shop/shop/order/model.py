"""What an order is, on the wire. The user in it is what orders need to know of one, and no more."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

LARGEST = 2**31 - 1
"""The largest id: what an INTEGER column holds."""

Id = Annotated[int, Meta(ge=0, le=LARGEST)]
Item = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f]*\Z")]
Quantity = Annotated[int, Meta(ge=1, le=1000)]
Limit = Annotated[int, Meta(ge=1, le=100)]
Offset = Annotated[int, Meta(ge=0, le=LARGEST)]
Time = Annotated[datetime, Meta(tz=True)]


class User(Struct):
    """A user, in the words of orders."""

    id: int
    name: str


class NewOrder(Struct):
    """What a caller says about an order."""

    user_id: Id
    item: Item
    quantity: Quantity = 1


class Order(Struct):
    """An order that exists."""

    id: int
    user_id: int
    item: str
    quantity: int
    placed: Time


class OrderWithUser(Struct):
    """An order with its user; None when the user exists no more."""

    id: int
    item: str
    quantity: int
    placed: Time
    user: User | None


class Page(Struct):
    """A part of all orders, by id."""

    items: list[Order]
    total: int
    limit: int
    offset: int
