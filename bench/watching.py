"""A process that watches services of the registry as a service of Mizzen does: one resolver, one connection per service.

    python watching.py URL OUT SERVICE…

Appends to OUT, as JSON lines: when every service had its first snapshot, and every change after that. Times are monotonic
seconds, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mizzen.assembly.drivers import Drivers
from mizzen.assembly.network import SocketNetwork
from mizzen.rules.config import DiscoveryConfig
from mizzen.rules.discovery import EndpointStore, Instance
from mizzen.tools.cli.loop import run


async def watch(url: str, out: Path, services: Sequence[str]) -> None:
    """Watch until cancelled."""
    missing = set(services)
    began = time.monotonic()
    drivers = Drivers(DiscoveryConfig(url=url), url=url, network=SocketNetwork(), clock=time.monotonic, random=random.random)
    resolver = drivers.resolving().resolver

    with out.open("a", buffering=1) as told:

        def changed(service: str, instances: tuple[Instance, ...]) -> None:
            now = time.monotonic()
            if service not in missing:
                told.write(json.dumps({"service": service, "instances": len(instances), "at": now}) + "\n")
                return
            missing.discard(service)
            if not missing:
                errors = sum(store.errors for store in stores.values())
                told.write(json.dumps({"first_s": now - began, "errors": errors}) + "\n")

        stores = {name: EndpointStore(name, clock=time.monotonic, on_change=partial(changed, name)) for name in services}
        try:
            async with asyncio.TaskGroup() as watches:
                for name, store in stores.items():
                    watches.create_task(resolver.watch(name, store))
        finally:
            drivers.close()


if __name__ == "__main__":
    run(lambda: watch(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
