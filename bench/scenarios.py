"""What is asked of whom, and what the design allows it to cost."""

from __future__ import annotations

from typing import NamedTuple

from figures import Budget

ALL = ("mizzen", "go", "fastapi", "uvicorn")
SERVICES = ("mizzen", "go", "fastapi")
"""Those that do the whole work; bare uvicorn validates nothing and calls nobody."""
NEW_USER = '{"name":"a user","email":"user@example.org","age":42}'


class Scenario(NamedTuple):
    """One kind of request at one number of connections."""

    name: str
    title: str
    path: str
    connections: int = 32
    method: str = "GET"
    body: str = ""
    contestants: tuple[str, ...] = ALL
    weight: float = 0.5
    """Share of the seconds of a round: those with a budget get all of them."""
    arrivals: bool = False
    """Whether latency is measured as well, at 70 % of what the contestant answers at most."""
    cpu: dict[str, Budget] = {}  # noqa: RUF012 - nobody writes to it
    """Budgets of CPU per request by contestant."""
    p99: dict[str, Budget] = {}  # noqa: RUF012 - the same
    """Budgets of the 99th percentile of latency by contestant."""


SERVED = {"go": Budget(1.0, aim=0.8), "fastapi": Budget(0.15)}
PROMPT = {"go": Budget(1.2)}

SERVER = (
    Scenario("served", "GET, from a dictionary", "/users/1", weight=1, arrivals=True, cpu=SERVED, p99=PROMPT),
    Scenario("awaiting", "GET, handler awaits", "/remote/1", weight=1, arrivals=True, cpu=SERVED),
    Scenario("posted", "POST, validated", "/users", method="POST", body=NEW_USER, contestants=SERVICES),
    Scenario("large", "GET, 100 KiB", "/picture"),
    Scenario("served-1", "GET, from a dictionary", "/users/1", connections=1, arrivals=True),
    Scenario("served-1000", "GET, from a dictionary", "/users/1", connections=1000, arrivals=True),
)
HOP = (
    Scenario("hop", "GET that calls user", "/orders/1", contestants=SERVICES, weight=1, arrivals=True, cpu={"go": Budget(0.8)}),
    Scenario("hop-1", "GET that calls user", "/orders/1", connections=1, contestants=SERVICES),
    # httpx looks through its whole pool for every call: with 1,000 under way each lasts longer than its timeout.
    Scenario("hop-1000", "GET that calls user", "/orders/1", connections=1000, contestants=("mizzen", "go")),
)
CLIENT_CALL = Budget(0.4)
FIRST_200 = Budget(1.3)
RESIDENT_MB = Budget(35.0)
ONE_CHANGE = Budget(2.0)
"""A change costs what its own service does: beside a hundred times as many watches, twice is noise and a hundred is not."""
