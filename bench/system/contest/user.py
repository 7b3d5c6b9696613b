"""Users in a dictionary."""

from __future__ import annotations

import asyncio

from msgspec import Struct

from mizzen import NotFound, Router, Service


class User(Struct):
    """45 bytes of JSON."""

    id: str
    name: str
    email: str


USERS = {str(number): User(str(number), f"user {number}", f"u{number}@a.de") for number in range(1000)}


def register_handlers(router: Router) -> None:
    """The measured route, and one that is slow on purpose."""
    router.get("/users/{id}", get_user, raises=[NotFound])
    router.get("/slow/{ms}", get_slowly)


async def get_user(id: str) -> User:
    """One user."""
    user = USERS.get(id)
    if user is None:
        raise NotFound(f"no user {id}")
    return user


async def get_slowly(ms: int) -> User:
    """One user, after so many milliseconds."""
    await asyncio.sleep(ms / 1000)
    return USERS["1"]


def build() -> Service:
    """Declare the service."""
    service = Service("user")
    service.mount(register_handlers)
    return service
