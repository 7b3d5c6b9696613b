"""What the machine itself knows of names: its own look-up, which tells neither times to live nor SRV, and its routes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from mizzen.words.errors import CallTimeout, NoInstances, PeerError

from .records import PEER, Absent, Kind, Said

REFRESH = 10.0
"""Seconds that an answer is kept for: the system does not say how long it holds."""
LOOK_UP = 4.5
"""Seconds for a look-up, which the system itself would go on with for up to half a minute."""
NOWHERE = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
"""Errors that say there is no such name, or that it has no address."""


class SystemNames:
    """Asks the system (``getaddrinfo``) for addresses: what there is without the ``dns`` extra."""

    def __init__(self, look_up: Callable[[str, int], Awaitable[list[tuple[Any, ...]]]]) -> None:
        self._look_up = look_up

    async def __call__(self, name: str, kind: Kind) -> Said:
        """The addresses of that family; ``Absent`` when there is none, another ``CallError`` when nobody can say."""
        if kind == "SRV":
            raise NoInstances("the system's own look-up knows no SRV records; pip install 'mizzen[dns]'", peer=PEER)
        try:
            async with asyncio.timeout(LOOK_UP):
                found = await self._look_up(name, 0)
        except TimeoutError:
            raise CallTimeout(f"no answer about {name} from the system in {LOOK_UP:g}s", peer=PEER, limit="call") from None
        except socket.gaierror as error:
            if error.errno in NOWHERE:
                raise Absent(f"the system knows no address of {name} ({error.strerror})", peer=PEER) from None
            raise PeerError(f"the system cannot say where {name} is ({error.strerror})", peer=PEER) from None
        family = socket.AF_INET6 if kind == "AAAA" else socket.AF_INET
        addresses = tuple(dict.fromkeys(each[4][0] for each in found if each[0] == family))
        if not addresses:
            raise Absent(f"the system knows no {kind} record of {name}", peer=PEER)
        return Said(REFRESH, addresses)


def routed(address: str) -> bool:
    """Whether this machine has a way to ``address``; no packet is sent to find out."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
    except OSError:
        return False
    return True
