"""Orders: what users want."""

from __future__ import annotations

from typing import Annotated

from mizzen import Fault, Header, Invalid, NotFound, Response, Router

from .model import Id, Limit, NewOrder, Offset, Order, OrderWithUser, Page
from .store import OrderStore
from .users import Users


def register_handlers(router: Router) -> None:
    """The routes of orders."""
    router.get("/orders", list_orders)
    router.post("/orders", create_order, status=201, raises=[Invalid])
    router.get("/orders/{id}", get_order, raises=[NotFound])
    router.put("/orders/{id}", change_order, raises=[NotFound, Invalid])
    router.delete("/orders/{id}", delete_order, status=204, raises=[NotFound])


async def list_orders(store: OrderStore, limit: Limit = 20, offset: Offset = 0) -> Page:
    """Orders by id, a page at a time, without their users: a page must not cost a call per order."""
    return await store.page(limit=limit, offset=offset)


async def get_order(id: Id, store: OrderStore, users: Users) -> OrderWithUser:
    """One order with its user."""
    order = await store.find(id)
    if order is None:
        raise NotFound(f"no order {id}")
    user = await users.find(order.user_id)
    return OrderWithUser(order.id, order.item, order.quantity, order.placed, user)


async def create_order(new: NewOrder, store: OrderStore, users: Users) -> Annotated[Response, Order, Header("location")]:
    """A new order, and where to find it."""
    await _known(new, users)
    order = await store.add(new)
    answer = Response.json_of(order, 201)
    answer.headers.set("location", f"/orders/{order.id}")
    return answer


async def change_order(id: Id, new: NewOrder, store: OrderStore, users: Users) -> Order:
    """The order with everything said anew."""
    await _known(new, users)
    order = await store.change(id, new)
    if order is None:
        raise NotFound(f"no order {id}")
    return order


async def delete_order(id: Id, store: OrderStore) -> None:
    """No such order any more."""
    if not await store.remove(id):
        raise NotFound(f"no order {id}")


async def _known(new: NewOrder, users: Users) -> None:
    if await users.find(new.user_id) is None:
        raise Invalid("the order names a user who does not exist", errors=[Fault("body.user_id", f"no user {new.user_id}")])
