"""The called side: answers, dawdles, counts what it was asked."""

from __future__ import annotations

import asyncio
import logging
import os
import warnings

import msgspec

from mizzen import Context, NotFound, Router, Service


class User(msgspec.Struct):
    id: str
    pid: int


class Seen(msgspec.Struct):
    """What reached this process."""

    posts: int = 0
    cancelled: int = 0
    remaining_ms: int = 0


async def get_user(id: str) -> User:
    if id == "none":
        raise NotFound("no user none")
    return User(id, os.getpid())


async def slow_user(seconds: float, seen: Seen, context: Context) -> User:
    seen.remaining_ms = int((context.remaining() or 0) * 1000)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        seen.cancelled += 1
        raise
    return User("slow", os.getpid())


async def post_user(user: User, seen: Seen) -> User:
    seen.posts += 1
    return user


async def get_seen(seen: Seen) -> Seen:
    return seen


async def crash() -> None:
    raise RuntimeError("a handler's defect\nwith two lines")


async def warn() -> None:
    warnings.warn("a library's warning", DeprecationWarning, stacklevel=1)
    logging.getLogger("some.library").warning("a library's record: %s", "ü\n")


def register_handlers(router: Router) -> None:
    router.get("/users/{id}", get_user, raises=[NotFound])
    router.get("/slow/{seconds}", slow_user)
    router.post("/users", post_user, status=201)
    router.get("/seen", get_seen)
    router.get("/crash", crash)
    router.get("/warn", warn)


def build() -> Service:
    service = Service("user")
    service.provide(Seen())
    service.mount(register_handlers)
    return service
