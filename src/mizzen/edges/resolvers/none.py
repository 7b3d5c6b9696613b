"""No registry at all: nothing can be resolved, and the callers are told so."""

from __future__ import annotations

import asyncio

from mizzen.rules.discovery import Feed
from mizzen.words.errors import NoInstances


class NoneResolver:
    """Knows nobody: says so once, then is silent."""

    async def watch(self, service: str, feed: Feed) -> None:
        """Feed one error that names the fix."""
        feed.error(
            NoInstances(
                f"nothing resolves {service}: discovery is none: (set discovery.url, or the client's own url)", peer=service
            )
        )
        await asyncio.get_running_loop().create_future()  # until cancelled, as every resolver

    def describe(self) -> dict[str, object]:
        return {"backend": "none"}

    def __repr__(self) -> str:
        return "<NoneResolver>"
