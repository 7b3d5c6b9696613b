"""The calling side."""

from __future__ import annotations

from typing import Any

import msgspec

from mizzen import Client, Response, Router, Service


class Order(msgspec.Struct):
    id: str
    user: dict[str, Any] | None


class Users:
    def __init__(self, client: Client) -> None:
        self.client = client


async def get_order(id: str, users: Users) -> Order:
    user = await users.client.get("/users/{id}", path={"id": id}, into=dict[str, Any], absent=None)
    return Order(id, user)


async def strict_order(id: str, users: Users) -> Order:
    return Order(id, await users.client.get("/users/{id}", path={"id": id}, into=dict[str, Any]))


async def slow_order(seconds: float, users: Users) -> Order:
    user = await users.client.get("/slow/{seconds}", path={"seconds": seconds}, into=dict[str, Any])
    return Order("slow", user)


async def post_order(order: Order, users: Users) -> Response:
    return await users.client.post("/users", body={"id": order.id, "pid": 0})


def register_handlers(router: Router) -> None:
    router.get("/orders/{id}", get_order)
    router.get("/strict/{id}", strict_order)
    router.get("/slow/{seconds}", slow_order)
    router.post("/orders", post_order, status=201)


def build() -> Service:
    service = Service("order")
    service.provide(Users(service.client("user")))
    service.mount(register_handlers)
    return service
