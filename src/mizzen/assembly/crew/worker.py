"""Worker: the service in one process of a crew, from its first message to its exit code."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping

from mizzen.assembly.lifeline import end_with
from mizzen.assembly.load import load_service
from mizzen.assembly.observing import Telemetry
from mizzen.assembly.process import assemble, drivers_of
from mizzen.edges import telemetry as outlets
from mizzen.rules.config import System
from mizzen.words.errors import StartError

from .gate import CrewNetwork, taken
from .messages import Duty, Failed
from .post import ORPHAN_GRACE, Post

UNUSABLE = 2
"""The exit code of a command that could not even begin; the supervisor says why."""
LAST_WORDS = 5.0
"""Seconds for the supervisor to read what a worker tells at its end; on a machine that is too busy for it, too."""


async def run_worker(system: System, name: str, *, environ: Mapping[str, str], channel: int, built: Callable[[], None]) -> int:
    """Run one worker of the crew whose supervisor has the other end of ``channel``, a descriptor; its exit code.

    ``built`` is told when everything is loaded and nothing is open yet.
    """
    post = Post()
    await post.channel.open(taken(channel))
    try:
        duty = await post.duty
        os.set_inheritable(duty.lifeline, False)
        end_with(duty.lifeline, grace=ORPHAN_GRACE, ask=False)  # its channel ends as well, which stops it in order
        return await _run(post, duty, system, name, environ, built)
    except StartError as error:
        post.channel.send(Failed(error.what, list(error.where), error.fix))
        return UNUSABLE
    except asyncio.CancelledError:  # the supervisor was gone before it said anything
        return 1
    finally:
        await post.close(LAST_WORDS)


async def _run(post: Post, duty: Duty, system: System, name: str, environ: Mapping[str, str], built: Callable[[], None]) -> int:
    config = system.service(name)
    network = CrewNetwork(
        port=duty.port,
        sockets=duty.sockets,
        admin=duty.admin,
        socket_mode=config.socket_mode,
    )
    drivers = drivers_of(system, name, environ=environ, network=network)
    logs = outlets.install(
        service=name,
        version=duty.instance.version,
        instance=duty.instance.id,
        worker=duty.number,
        level=config.log.level,
        format=config.log.format,
        colour=duty.colour,
    )
    try:
        logs.attach(asyncio.get_running_loop())
        service = load_service(system, name)
        logs.adopt()
        telemetry = Telemetry(name, version=duty.instance.version, logs=logs)
        telemetry.emit = outlets.tell([telemetry.emit, post.happened])
        runtime = assemble(
            service, system, duty.instance, drivers, None, network, telemetry, duty.host, duty.port, crew=post,
            bound=f"worker {duty.number} at {duty.host}:{duty.port}",
        )  # fmt: skip
        built()
        post.work(runtime, network, telemetry.metrics)
        return await runtime.run()
    finally:
        drivers.close()
        logs.close()
