"""The supervisor behind `mizzen dev`: registry, children in order, restarts, and an end that leaves nothing."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mizzen.assembly.ports import describe_holder, is_taken
from mizzen.rules.config import ServiceConfig, System, parse
from mizzen.words.clock import monotonic
from mizzen.words.errors import ConfigError, StartError

from .banner import banner
from .child import Child
from .environ import child_environ
from .imports import Imports, affected
from .lifeline import GRACE
from .order import required_peers, start_order
from .screen import Screen
from .unit import HOST, Unit
from .watch import can_watch, changes

if TYPE_CHECKING:
    from mizzen.edges.http import Tls

HTTP_UNIX = "http+unix://"
IN_TURN = 5.5
"""Seconds that a service waits for those that call it to end first: just over the drain of 5 s they are given here."""


class Supervisor:
    """Runs every service of a system as a process of its own."""

    def __init__(
        self, system: System, described: Mapping[str, Mapping[str, Any]], environ: Mapping[str, str], screen: Screen
    ) -> None:
        self.system = system
        self.screen = screen
        self._described = described
        self._environ = environ
        self._stop = asyncio.Event()
        self._imports = Imports(system.folder)
        peers = {name: required_peers(config, described[name]["clients"]) for name, config in system.services.items()}
        self.units: dict[str, Unit] = {}
        for name in start_order(peers):
            config = system.services[name]
            waits = [self.units[peer] for peer in peers[name] if peer in self.units]
            self.units[name] = Unit(name, config, waits, make=self._make, tls=self._tls, screen=screen)
        self._callers = _callers({name: list(described[name]["clients"]) for name in self.units})

    async def run(self) -> int:
        """Run until SIGINT or SIGTERM; 0, or ``StartError`` when a port is taken."""
        _check_ports(self.system)
        self._take_signals()
        tasks = [await self._start_registry()]
        try:
            keepers = [asyncio.ensure_future(unit.keep()) for unit in self.units.values()]
            tasks += [*keepers, asyncio.ensure_future(self._welcome()), asyncio.ensure_future(self._watch())]
            stop = asyncio.ensure_future(self._stop.wait())
            done, _ = await asyncio.wait({*tasks[:-2], stop}, return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            code = 0 if stop in done else self._tell_defect(done)
            await self._stop_all()
        finally:
            for unit in self.units.values():
                unit.kill()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self.screen.say("stopped: nothing is left running")
        return code

    def interrupt(self, why: str) -> None:
        """Stop in order; the second time, at once."""
        if self._stop.is_set():
            self.screen.say(f"{why} again: killed", wrong=True)
            for unit in self.units.values():
                unit.kill()
        else:
            self.screen.say(f"{why}: stopping")
            self._stop.set()

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, partial(self.interrupt, number.name))
        # Without its reader or terminal it stops in order, however often that is noticed.
        loop.add_signal_handler(signal.SIGHUP, self._stop.set)
        self.screen.on_lost = self._stop.set

    async def _start_registry(self) -> asyncio.Task[None]:
        """The registry, once it listens; it is in this process, so it ends with it."""
        from mizzen.assembly.registry import serve_registry

        listens = asyncio.Event()
        config = self.system.registry
        task = asyncio.get_running_loop().create_task(
            serve_registry(config.host, config.port, ready=lambda *_: listens.set()), name="registry"
        )
        ready = asyncio.ensure_future(listens.wait())
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if task.done():
            task.result()
        return task

    async def _welcome(self) -> None:
        for unit in self.units.values():
            await unit.ready.wait()
        urls = {name: _url(unit.config) for name, unit in self.units.items()}
        registry = f"http://{self.system.registry.address}"
        self.screen.raw(f"\n{banner(self.system.name, urls, self._described, registry)}\n")

    async def _stop_all(self) -> None:
        """In reverse: who calls ends before who is called; all of it within the grace."""
        began = monotonic()

        async def stop(unit: Unit) -> None:
            try:
                async with asyncio.timeout(IN_TURN):
                    for caller in self._callers[unit.name]:
                        await self.units[caller].ended.wait()
            except TimeoutError:
                self.screen.say(f"{unit.name} stops, although a caller of it has not")
            await unit.stop(max(0.5, GRACE - (monotonic() - began)))
            await unit.ended.wait()

        await asyncio.gather(*(stop(unit) for unit in reversed(self.units.values())))

    async def _watch(self) -> None:
        if not can_watch():
            self.screen.say("watchfiles is not installed, so nothing restarts on change; pip install 'mizzen[cli]'")
            return
        try:
            async for files in changes(self.system.folder, self._stop):
                await self._changed(files)
        except (OSError, RuntimeError) as error:  # such as too few inotify watches
            self.screen.say(f"cannot watch {self.system.folder}, so nothing restarts on change: {error}", wrong=True)

    async def _changed(self, files: set[Path]) -> None:
        if self.system.file in files and not self._read_again():
            files = files - {self.system.file}
        if not files:
            return
        self._imports.changed(files)
        names = affected(files, self._parts())
        shown = ", ".join(sorted(str(file.relative_to(self.system.folder)) for file in files)[:3])
        self.screen.say(f"{shown} changed: {', '.join(name for name in self.units if name in names)} restarts")
        await asyncio.gather(*(self.units[name].restart() for name in names))

    def _parts(self) -> dict[str, set[Path]]:
        """The files that each service is made of."""
        targets = {name: (config.build or config.app or "") for name, config in self.system.services.items()}
        return {name: self._imports.files(target.partition(":")[0]) for name, target in targets.items()}

    def _read_again(self) -> bool:
        """Take over a changed mizzen.toml; a wrong one is told, and the old one stays."""
        try:
            system = parse(self.system.file.read_text(encoding="utf-8"), self.system.file, self._environ)
        except (ConfigError, OSError, UnicodeDecodeError) as error:
            self.screen.say(f"error: {error}\n  everything goes on as it was", wrong=True)
            return False
        if set(system.services) != set(self.units):
            differ = ", ".join(sorted(set(system.services) ^ set(self.units)))
            self.screen.say(f"{self.system.file.name} adds or removes {differ}: start mizzen dev again to see that", wrong=True)
            return False
        self.system = system
        for name, unit in self.units.items():
            unit.config = system.services[name]
        return True

    def _make(self, unit: Unit) -> Child:
        name, folder = unit.name, self.system.folder
        return Child(
            [sys.executable, "-m", "mizzen", "run", name, "--dir", str(folder), "--stop-with-parent"],
            folder=folder,
            environ=child_environ(self.system, name, self._environ),
            on_line=partial(self.screen.log, name),
            on_error=partial(self.screen.log, name),
        )

    def _tls(self, name: str) -> Tls | None:
        """How the service ``name`` is asked whether it is ready; None while its files are wrong, as it will say itself."""
        from mizzen.assembly.tls import own_tls

        try:
            return own_tls(self.system, name)
        except ConfigError:
            return None

    def _tell_defect(self, done: Iterable[asyncio.Future[Any]]) -> int:
        """Registry and keepers end only when told to; anything else is a defect of ours, said and survived by none."""
        for future in done:
            error = None if future.cancelled() else future.exception()
            self.screen.say(f"mizzen dev itself failed: {type(error).__name__}: {error}", wrong=True)
        return 1

    def __repr__(self) -> str:
        return f"<Supervisor {self.system.name}: {', '.join(map(repr, self.units.values()))}>"


def _url(config: ServiceConfig) -> str:
    if config.socket is not None:
        return f"{HTTP_UNIX}{config.socket}"
    return f"{'http' if config.tls is None else 'https'}://{HOST}:{config.port}"


def _callers(clients: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """For each service those that call it and started after it; of two that call each other, the later ends first."""
    order = list(clients)
    return {name: [other for other in order[order.index(name) + 1 :] if name in clients[other]] for name in order}


def _check_ports(system: System) -> None:
    """Every port is one service's and free, or nothing starts."""
    listeners = [("the registry", system.registry.port)]
    for name, config in system.services.items():
        own = config.port if config.socket is None else None
        listeners += [(name, port) for port in (own, config.admin.port) if port is not None]
    holders: dict[int, str] = {}
    for name, port in listeners:
        if port == 0:
            raise StartError(f"{name} has port 0, so nobody could say where it is", fix="give it a port in mizzen.toml")
        if port in holders:
            raise StartError(
                f"{name} and {holders[port]} both listen on port {port}",
                fix=f"give {name} a port of its own in {system.file.name}",
            )
        holders[port] = name
    for port, name in holders.items():
        if is_taken(port, system.registry.host if name == "the registry" else HOST):
            raise StartError(
                f"{name} cannot start: port {port} is in use by {describe_holder(port)}",
                fix=f"stop that process, or choose another port in {system.file.name}",
            )
