"""The event loops that what runs on a loop is tested on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

try:
    import uvloop

    LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "asyncio": asyncio.new_event_loop,
        "uvloop": uvloop.new_event_loop,
    }
except ImportError:
    LOOPS = {"asyncio": asyncio.new_event_loop}
