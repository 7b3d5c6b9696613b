"""Messages between the supervisor and one worker, over a pair of sockets that nobody else has."""

from __future__ import annotations

from typing import Literal

import msgspec

from mizzen.edges.telemetry import Figures
from mizzen.rules.discovery import Instance


class Message(msgspec.Struct, tag=True, frozen=True):
    """What one side tells the other."""


# -- to a worker


class Duty(Message, frozen=True):
    """The first message: who the worker is, and with what it works."""

    number: int
    instance: Instance
    """The whole crew's."""
    host: str
    port: int
    sockets: list[int]
    """Descriptors of the service's sockets; which of them to accept on is said by ``Accept``."""
    admin: int | None
    """Descriptor of the admin port's socket."""
    lifeline: int
    """Descriptor of a pipe that ends when the supervisor does."""
    colour: bool = False
    """Whether the supervisor's output is a terminal's."""


class Accept(Message, frozen=True):
    """Accept connections on these of the sockets, by their place in ``Duty.sockets``, and on no others."""

    sockets: list[int]


class Others(Message, frozen=True):
    """How the crew is, for the platform's questions, which any worker may be asked."""

    state: str
    status: str
    """``ok``, ``degraded`` or ``unavailable``: what /health says, whoever answers it."""
    note: str
    workers: dict[str, str]
    """Each worker's state or trouble, by its number."""


class Send(Message, frozen=True):
    """Send ``Numbers`` now: somebody looks at the metrics."""

    round: int
    """Comes back with them."""


class Page(Message, frozen=True):
    """The metrics page that an ``Ask`` asked for."""

    id: int
    page: bytes


class Stop(Message, frozen=True):
    """Linger, drain and end; with ``force``, at once."""

    force: bool = False


# -- to the supervisor


class Report(Message, frozen=True):
    """How a worker is; sent on every change and regularly, so that one that hangs is noticed."""

    state: str
    verdict: Literal["passing", "warning", "critical"] = "critical"
    note: str = ""
    waiting: list[str] = []
    failed_calls: int = 0
    """Calls to peers that failed since it started."""
    peers: dict[str, int] = {}
    """Known instances of each peer."""


class Numbers(Message, frozen=True):
    """All that a worker has measured since it started."""

    figures: list[Figures]
    round: int = 0
    """Of the ``Send`` that they answer; 0 when nobody asked."""


class Ask(Message, frozen=True):
    """Send the metrics page of the whole crew."""

    id: int
    """Comes back with it."""


class Failed(Message, frozen=True):
    """The worker cannot start: a ``StartError``."""

    what: str
    where: list[str]
    fix: str


ToWorker = Duty | Accept | Others | Send | Page | Stop
ToSupervisor = Report | Numbers | Ask | Failed
