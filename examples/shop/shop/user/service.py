"""The user service: a declaration; who runs it supplies ports, discovery and the rest."""

from __future__ import annotations

from functools import partial

from msgspec import Struct

from mizzen import Service

from . import register_handlers
from .store import UserStore, open_users


class Settings(Struct):
    """The service's own settings."""

    database_url: str = "sqlite:///user.db"
    seed: int = 0
    """Users to put into an empty database."""


def build(settings: Settings) -> Service:
    """Declare the service."""
    service = Service("user")
    service.provide(UserStore, partial(open_users, settings.database_url, seed=settings.seed), check=UserStore.ping)
    service.mount(register_handlers)
    return service
