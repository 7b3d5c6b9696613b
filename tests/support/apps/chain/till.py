"""A service that calls one which is an ASGI app and nothing else."""

from __future__ import annotations

from typing import Any

from mizzen import Client, Router, Service


class Billing:
    def __init__(self, client: Client) -> None:
        self.client = client


async def get_total(id: str, billing: Billing) -> int | None:
    found = await billing.client.get("/invoices/{id}", path={"id": id}, into=dict[str, Any], absent=None)
    return None if found is None else sum(line["cents"] for line in found["invoice"]["lines"])


def register_handlers(router: Router) -> None:
    router.get("/totals/{id}", get_total)


def build() -> Service:
    service = Service("till")
    service.provide(Billing(service.client("billing")))
    service.mount(register_handlers)
    return service
