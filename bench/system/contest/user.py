"""Users in a dictionary."""

from __future__ import annotations

import asyncio
from typing import Annotated

from msgspec import Meta, Struct

from mizzen import NotFound, Router, Service


class User(Struct):
    """45 bytes of JSON."""

    id: str
    name: str
    email: str


class NewUser(Struct):
    """What has to be checked of a user."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    email: Annotated[str, Meta(pattern=r"^[^@\s]+@[^@\s]+$")]
    age: Annotated[int, Meta(ge=0, le=150)]


PICTURE = b"x" * (100 << 10)
USERS = {str(number): User(str(number), f"user {number}", f"u{number}@a.de") for number in range(1000)}


def register_handlers(router: Router) -> None:
    """The measured routes, and one that is slow on purpose."""
    router.get("/users/{id}", get_user, raises=[NotFound])
    router.get("/remote/{id}", get_remote, raises=[NotFound])
    router.get("/picture", get_picture)
    router.post("/users", post_user, status=201)
    router.get("/slow/{ms}", get_slowly)


async def get_user(id: str) -> User:
    """One user."""
    user = USERS.get(id)
    if user is None:
        raise NotFound(f"no user {id}")
    return user


async def get_remote(id: str) -> User:
    """One user, waited for as for the answer of a database's driver."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[User | None] = loop.create_future()
    loop.call_soon(arrived.set_result, USERS.get(id))
    user = await arrived
    if user is None:
        raise NotFound(f"no user {id}")
    return user


async def get_picture() -> bytes:
    """100 KiB."""
    return PICTURE


async def post_user(user: NewUser) -> User:
    """A user whose every field was checked."""
    return User("1000", user.name, user.email)


async def get_slowly(ms: int) -> User:
    """One user, after so many milliseconds."""
    await asyncio.sleep(ms / 1000)
    return USERS["1"]


def build() -> Service:
    """Declare the service."""
    service = Service("user")
    service.mount(register_handlers)
    return service
