"""Orders in a dictionary, each with its user fetched from the user service."""

from __future__ import annotations

from msgspec import Struct

from mizzen import Client, NotFound, Router, Service


class User(Struct):
    """A user, in the words of orders."""

    id: str
    name: str


class Order(Struct):
    """An order with its user."""

    id: str
    quantity: int
    user: User | None = None


QUANTITIES = {str(number): number for number in range(1000)}


class Users:
    """Users, wherever they live."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def find(self, id: str) -> User | None:
        """The user of that id, if there is one."""
        return await self.client.get("/users/{id}", path={"id": id}, into=User, absent=None)

    async def find_slowly(self, ms: int) -> User:
        """A user, after so many milliseconds."""
        return await self.client.get("/slow/{ms}", path={"ms": ms}, into=User)


def register_handlers(router: Router) -> None:
    """The measured route, and one whose peer is slow on purpose."""
    router.get("/orders/{id}", get_order, raises=[NotFound])
    router.get("/slow/{ms}", get_slowly)


async def get_order(id: str, users: Users) -> Order:
    """One order with its user."""
    quantity = QUANTITIES.get(id)
    if quantity is None:
        raise NotFound(f"no order {id}")
    return Order(id, quantity, await users.find(id))


async def get_slowly(ms: int, users: Users) -> User:
    """The user of a slow peer."""
    return await users.find_slowly(ms)


def build() -> Service:
    """Declare the service."""
    service = Service("order")
    service.provide(Users(service.client("user")))
    service.mount(register_handlers)
    return service
