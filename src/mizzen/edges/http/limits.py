"""What a server and a client's pool put up with: sizes in bytes, times in seconds, each with its reason."""

from __future__ import annotations

import msgspec

BODY = 1024 * 1024
"""Bytes of a request's body: nginx's ``client_max_body_size``; a route that takes more says so."""

HEADERS = 32 * 1024
"""Bytes of a request's head without its target: four times nginx's buffer, since tokens and cookies have grown."""

URL = 8 * 1024
"""Bytes of a request's target: what RFC 9110 §4.1 asks for and nginx gives."""

CONNECTIONS = 10_000
"""Open connections: some 40 MB of ours while they idle, and below the usual limit of file descriptors in a container."""

HEADER_READ = 10.0
"""Seconds from the first byte of a request's head to its last: a slow head holds nothing but a connection."""

KEEP_ALIVE = 75.0
"""Seconds that an idle connection is kept: nginx's, and more than our own client's 30 s, so that the client closes first."""

PROGRESS = 60.0
"""Seconds without one byte moving, in either direction, after which a body is given up: nginx's ``send_timeout``."""

DISCARD = 2.0
"""Seconds that we go on reading after a refusal: closing with unread bytes would make the kernel reset the
connection and destroy the answer on its way (RFC 9112 §9.6)."""

IDLE = 30.0
"""Seconds that a client keeps an idle connection: less than the keep-alive of any server worth calling."""

AGE = 600.0
"""Seconds after which a client replaces a connection, so that load follows when instances are added."""

ANSWER_BODY = 16 * 1024 * 1024
"""Bytes of an answer that is read whole: far more than JSON should have, and in-flight times it must fit in memory. A
stream has no limit."""

CONNECTIONS_OUT = 1000
"""Connections of a client to one address: as many as our own server has requests in flight. Calls beyond it wait their
turn, in the time they have: one that opened ever more would end at the limit of file descriptors, for everybody."""

ANSWER_HEADERS = 64 * 1024
"""Bytes of an answer's head: twice what our own server accepts."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a server puts up with from its callers."""

    body: int = BODY
    headers: int = HEADERS
    url: int = URL
    connections: int = CONNECTIONS
    header_read: float = HEADER_READ
    keep_alive: float = KEEP_ALIVE
    progress: float = PROGRESS
    discard: float = DISCARD


class PoolLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How long a client keeps connections to one address, and how much of an answer it reads."""

    idle: float = IDLE
    age: float = AGE
    connections: int = CONNECTIONS_OUT
    spread: float = 0.0
    """The share of ``age`` by which single connections differ from it, up and down: 0.2 where the address is virtual."""
    body: int = ANSWER_BODY
    headers: int = ANSWER_HEADERS
