"""The client of users' tests: a service that cannot start ends the test, and says why."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mizzen import Service, StartError, testing


class Store: ...


@asynccontextmanager
async def unreachable() -> AsyncIterator[Store]:
    raise ConnectionRefusedError("nobody at db:5432")
    yield Store()


def refuses() -> None:
    raise RuntimeError("never")


def waiting_for_a_thing() -> Service:
    service = Service("order")
    service.provide(Store, unreachable)
    return service


def waiting_for_a_check() -> Service:
    service = Service("order")
    service.check("disk", refuses)
    return service


@pytest.mark.parametrize(
    ("service", "waits"),
    [(waiting_for_a_thing(), "Store: nobody at db:5432"), (waiting_for_a_check(), "disk")],
)
def test_a_service_that_waits_for_ever_fails_the_test(service: Service, waits: str) -> None:
    """What would keep a service waiting until it is there is an error of the test, by name."""

    async def main() -> None:
        with pytest.raises(StartError, match=f"order did not start within 30s: it waits for {waits}"):
            async with testing.client(service):
                raise AssertionError

    testing.run(main())
