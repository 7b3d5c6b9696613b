"""Users: who may order."""

from __future__ import annotations

from typing import Annotated

from mizzen import Conflict, Header, NotFound, Response, Router

from .model import Id, Limit, NewUser, Offset, Page, User
from .store import UserStore


def register_handlers(router: Router) -> None:
    """The routes of users."""
    router.get("/users", list_users)
    router.post("/users", create_user, status=201, raises=[Conflict])
    router.get("/users/{id}", get_user, raises=[NotFound])
    router.put("/users/{id}", change_user, raises=[NotFound, Conflict])
    router.delete("/users/{id}", delete_user, status=204, raises=[NotFound])


async def list_users(store: UserStore, limit: Limit = 20, offset: Offset = 0) -> Page:
    """Users by id, a page at a time."""
    return await store.page(limit=limit, offset=offset)


async def get_user(id: Id, store: UserStore) -> User:
    """One user."""
    user = await store.find(id)
    if user is None:
        raise NotFound(f"no user {id}")
    return user


async def create_user(new: NewUser, store: UserStore) -> Annotated[Response, User, Header("location")]:
    """A new user, and where to find it."""
    user = await store.add(new)
    answer = Response.json_of(user, 201)
    answer.headers.set("location", f"/users/{user.id}")
    return answer


async def change_user(id: Id, new: NewUser, store: UserStore) -> User:
    """The user with everything said anew."""
    user = await store.change(id, new)
    if user is None:
        raise NotFound(f"no user {id}")
    return user


async def delete_user(id: Id, store: UserStore) -> None:
    """No such user any more; orders of it stay, and show no user."""
    if not await store.remove(id):
        raise NotFound(f"no user {id}")
