"""Keeping: a start without the registry goes on with what an earlier life knew, and the disk is never in the way."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from mizzen.assembly.client import Client
from mizzen.assembly.drivers import Drivers
from mizzen.assembly.keeping import CONFIRM_EVERY, RECALL_AFTER, Keeper, Keeping
from mizzen.assembly.observing import Telemetry
from mizzen.assembly.peers import Peer
from mizzen.assembly.process import connect_peer, keeping_of
from mizzen.edges.snapshots import SnapshotFile
from mizzen.rules.config import ClientConfig, DiscoveryConfig, ServiceConfig, System
from mizzen.rules.discovery import EndpointStore, Feed, Instance
from mizzen.rules.events import Event, RegistryLost, SnapshotRecalled
from mizzen.tools.testing.memory import MemoryNetwork
from mizzen.tools.testing.virtual import run
from mizzen.words.errors import ConnectFailed
from mizzen.words.outcome import classify

CONSUL = "consul://10.0.3.2:8500"
DAY = 86400.0


def now() -> float:
    return asyncio.get_running_loop().time()


def instances(names: str) -> list[Instance]:
    return [Instance(name, "user", f"10.0.0.{ord(name)}", 8101) for name in names]


class FakeRegistry:
    """A resolver that says what the test has it say; until then it is silent, as one whose registry hangs."""

    feed: Feed | None = None

    async def watch(self, service: str, feed: Feed) -> None:
        self.feed = feed
        await asyncio.get_running_loop().create_future()


class Life:
    """One life of a process that calls ``user``."""

    def __init__(self, folder: Path, wall: float = 0.0) -> None:
        self.registry = FakeRegistry()
        self.events: list[Event] = []
        telemetry = Telemetry("order", version="test")
        telemetry.emit = self.events.append
        self.keeping = Keeping(str(folder), wall=lambda: self.file.stat().st_mtime + wall)
        keeper = self.keeping.keeper(CONSUL, "user")
        self.file = keeper.file.path
        self.peer = Peer(
            Client("user", required=False, timeout=None, retries=None, classify=classify),
            ClientConfig(),
            self.registry,
            backend=CONSUL,
            network=MemoryNetwork(),
            telemetry=telemetry,
            clock=now,
            random=lambda: 0.5,
            keeper=keeper,
        )
        self.store = self.peer.store

    def said(self, names: str) -> None:
        assert self.registry.feed is not None
        self.registry.feed.snapshot(instances(names))

    def failed(self) -> None:
        assert self.registry.feed is not None
        self.registry.feed.error(ConnectFailed("refused", peer="consul"))

    @property
    def names(self) -> str:
        return "".join(each.id for each in self.store.instances)


@asynccontextmanager
async def life(folder: Path, wall: float = 0.0) -> AsyncIterator[Life]:
    made = Life(folder, wall)
    made.peer.start()
    await asyncio.sleep(0)
    try:
        yield made
    finally:
        await made.peer.stop()
        assert [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def earlier(folder: Path, names: str = "abc") -> Path:
    """A life that read those instances, and is over."""
    async with life(folder) as before:
        before.said(names)
        await asyncio.sleep(1.5)
    return before.file


def test_a_start_without_the_registry_knows_what_the_life_before_knew(tmp_path: Path) -> None:
    """With the first failed read the snapshot is taken, is stale and as old as its file, and two lines say all of it."""

    async def main() -> None:
        await earlier(tmp_path)
        async with life(tmp_path, wall=DAY) as again:
            began = now()
            again.failed()
            assert await again.peer.known()
            assert (again.names, again.store.state, now() - began) == ("abc", "stale", 0)
            assert again.store.age(now()) == pytest.approx(DAY)
            assert [type(event) for event in again.events] == [RegistryLost, SnapshotRecalled]
            assert again.events[1].text() == (
                f"user has 3 instances as {CONSUL} had them 24h ago, from disk: they stand until the registry answers"
            )

    run(main())


def test_a_registry_that_says_nothing_is_waited_for_a_second(tmp_path: Path) -> None:
    """One that hangs is no better than one that is down, and the start has five seconds in all."""

    async def main() -> None:
        await earlier(tmp_path)
        async with life(tmp_path) as again:
            began = now()
            assert await again.peer.known()
            assert (again.names, again.store.state) == ("abc", "stale")
            assert now() - began == pytest.approx(RECALL_AFTER)

    run(main())


def test_a_registry_that_answers_needs_no_snapshot(tmp_path: Path) -> None:
    """What it says is taken, were it nothing at all."""

    async def main() -> None:
        await earlier(tmp_path)
        async with life(tmp_path) as again:
            again.said("")
            await asyncio.sleep(2)
            assert (again.names, again.store.state) == ("", "fresh")

    run(main())


def test_the_registry_takes_over_when_it_is_back(tmp_path: Path) -> None:
    """Its first set replaces the one from disk, on disk too."""

    async def main() -> None:
        file = await earlier(tmp_path)
        async with life(tmp_path) as again:
            again.failed()
            await again.peer.known()
            old = file.read_bytes()
            await asyncio.sleep(100)
            assert file.read_bytes() == old
            again.said("xy")
            await asyncio.sleep(2)
            assert (again.names, again.store.state) == ("xy", "fresh")
        async with life(tmp_path) as third:
            third.failed()
            await third.peer.known()
            assert third.names == "xy"

    run(main())


def test_without_a_snapshot_a_start_knows_nobody(tmp_path: Path) -> None:
    """Nothing on disk is no error, and no line."""

    async def main() -> None:
        async with life(tmp_path) as first:
            first.failed()
            await asyncio.sleep(2)
            assert (first.names, first.store.state) == ("", "never")
            assert [type(event) for event in first.events] == [RegistryLost]

    run(main())


def test_what_is_held_is_kept(tmp_path: Path) -> None:
    """The file has what callers see, not what a registry without its memory says."""

    async def main() -> None:
        async with life(tmp_path) as before:
            before.said("abc")
            await asyncio.sleep(2)
            before.failed()
            before.said("")
            before.said("d")
            await asyncio.sleep(2)
        async with life(tmp_path) as again:
            again.failed()
            await again.peer.known()
            assert again.names == "abcd"

    run(main())


class FakeFile:
    """A file that the test plays: it remembers what was written, and can be busy with the first write for a while."""

    def __init__(self, busy: Callable[[], None] = lambda: None) -> None:
        self.path = Path("/nowhere")
        self.written: list[str] = []
        self._busy = busy

    def write(self, instances: Sequence[Instance]) -> None:
        self.written.append("".join(each.id for each in instances))
        if len(self.written) == 1:
            self._busy()


def keeper_of(file: FakeFile) -> tuple[Keeper, EndpointStore]:
    store = EndpointStore("user", clock=now, on_change=lambda known: None)
    return Keeper(Keeping("/nowhere"), cast("SnapshotFile", file)), store


def test_a_set_that_stays_the_same_is_confirmed_once_a_minute() -> None:
    """The file is about as old as the registry's last word, and not written with every one of them."""

    async def main() -> None:
        file = FakeFile()
        keeper, store = keeper_of(file)
        for _ in range(150):
            store.snapshot(instances("abc"))
            keeper.keep(store, now())
            await asyncio.sleep(1)
        for _ in range(10):  # nobody has read it since
            keeper.keep(store, now())
            await asyncio.sleep(CONFIRM_EVERY)
        await keeper.close()
        assert file.written == ["abc"] * 4

    run(main())


def test_changes_while_the_disk_is_busy_are_written_as_one() -> None:
    """A slow disk gets the latest set next, not all of them."""

    async def main() -> None:
        loop, seen = asyncio.get_running_loop(), threading.Event()

        def more() -> None:
            for names in ("ab", "abc", "abcd"):
                store.snapshot(instances(names))
                keeper.keep(store, now())
            seen.set()

        def busy() -> None:
            loop.call_soon_threadsafe(more)
            assert seen.wait(10)

        file = FakeFile(busy)
        keeper, store = keeper_of(file)
        store.snapshot(instances("a"))
        keeper.keep(store, now())
        await asyncio.sleep(1)
        await keeper.close()
        assert file.written == ["a", "abcd"]

    run(main())


def test_a_disk_that_hangs_keeps_nobody_waiting() -> None:
    """Its thread is one that a process does not wait for at its end, and none of those that handlers and libraries share."""

    async def main() -> None:
        seen: list[tuple[str, bool]] = []
        file = FakeFile(lambda: seen.append((threading.current_thread().name, threading.current_thread().daemon)))
        keeper, store = keeper_of(file)
        store.snapshot(instances("a"))
        keeper.keep(store, now())
        await keeper.close()
        assert seen == [("disk", True)]

    run(main())


@pytest.mark.parametrize("data", [b"", b'{"mizzen": 99}', b"\xff\xfe garbage"])
def test_a_file_that_cannot_be_used_is_ignored_with_one_line(
    tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The line names the file; the start goes on as without it, and the next set is kept in its place."""

    async def main() -> None:
        file = await earlier(tmp_path)
        file.write_bytes(data)
        async with life(tmp_path) as again:
            again.failed()
            await asyncio.sleep(2)
            assert again.store.state == "never"
            again.said("ab")
            await asyncio.sleep(2)
        [line] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert line.startswith(f"{file} is ignored: it ")
        async with life(tmp_path) as third:
            third.failed()
            await third.peer.known()
            assert third.names == "ab"

    run(main())


def test_a_disk_that_takes_nothing_is_one_warning_for_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the number of sets and of peers: the service goes on, and says when it works again."""
    caplog.set_level(logging.INFO, "mizzen.discovery")
    (tmp_path / "file").write_text("in the way of the folder")

    async def main() -> None:
        async with life(tmp_path / "file") as one:
            other = one.keeping.keeper(CONSUL, "stock")
            for names in ("a", "ab", "abc"):
                one.said(names)
                other.keep(one.store, now())
                await asyncio.sleep(2)
                assert (one.names, one.store.state) == (names, "fresh")
            (tmp_path / "file").unlink()
            one.said("abcd")
            await asyncio.sleep(2)
            await other.close()
        folder = tmp_path / "file"
        lines = [record.getMessage() for record in caplog.records]
        assert lines == [
            f"snapshots cannot be kept in {folder}: File exists; a start without the registry would know nobody",
            f"snapshots are kept in {folder} again",
        ]

    run(main())


def test_only_what_a_registry_says_is_kept(tmp_path: Path) -> None:
    """By configuration alone, by registry with its options but without its secrets; addresses that are written down are not."""

    def keeper(**discovery: str | None) -> Keeper | None:
        config = DiscoveryConfig(snapshots=str(tmp_path), **discovery)  # type: ignore[arg-type]
        system = System(name="shop", place="/nowhere/mizzen.toml", discovery=config, services={"order": ServiceConfig(port=1)})
        network, client = MemoryNetwork(), Client("user", required=False, timeout=None, retries=None, classify=classify)
        drivers = Drivers(config, url=config.url, network=network, clock=lambda: 0.0, random=lambda: 0.5)
        keeping = keeping_of(system)
        telemetry = Telemetry("order", version="test")
        peer = connect_peer(client, system, "order", drivers, network=network, telemetry=telemetry, keeping=keeping)
        return peer._keeper

    def path(url: str, resolve: str | None = None) -> Path:
        made = keeper(url=url, resolve=resolve)
        assert made is not None
        return made.file.path

    east = path("consul://h:8500?dc=east")
    assert east.parent == tmp_path
    assert path("consul://h:8500?dc=west") != east
    assert path("consul://elsewhere:8500", "consul://h:8500?dc=east") == east
    assert path("consul://h:8500?dc=east&token=one") == path("consul://h:8500?dc=east&token=another")
    assert keeper(url="static:user=10.0.0.1:80") is None
    assert keeping_of(System(name="shop", place="/nowhere/mizzen.toml")) is None
