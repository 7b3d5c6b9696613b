"""The order service: a declaration; who runs it supplies ports, discovery and the rest."""

from __future__ import annotations

from functools import partial

from msgspec import Struct

from mizzen import Service

from . import register_handlers
from .store import OrderStore, open_orders
from .users import Users


class Settings(Struct):
    """The service's own settings."""

    database_url: str = "sqlite:///order.db"
    seed: int = 0
    """Orders to put into an empty database."""


def build(settings: Settings) -> Service:
    """Declare the service."""
    service = Service("order")
    service.provide(OrderStore, partial(open_orders, settings.database_url, seed=settings.seed), check=OrderStore.ping)
    # Not required: orders can be listed and deleted while users are away, so `/health` says so and stays 200.
    service.provide(Users(service.client("user")))
    service.mount(register_handlers)
    return service
