"""Snapshots on disk: whole or not there, and never believed when they are not what they should be."""

from __future__ import annotations

import json
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mizzen.edges.snapshots import LARGEST, VERSION, SnapshotFile, Unusable
from mizzen.rules.discovery import Instance

CONSUL = "consul://10.0.3.2:8500?dc=east"
THREE = [
    Instance(f"user-10.0.0.{n}-8101", "user", f"10.0.0.{n}", 8101, "https", "1.2", "a", 3, meta={"boot": f"b{n}"})
    for n in (1, 2, 3)
]


def kept(folder: Path, registry: str = CONSUL, service: str = "user", *, ahead: float = 0.0) -> SnapshotFile:
    return SnapshotFile(folder, registry, service, wall=lambda: time.time() + ahead)


@pytest.mark.parametrize("instances", [THREE, []])
def test_what_is_written_comes_back(tmp_path: Path, instances: list[Instance]) -> None:
    """Every field of every instance, in the same order; a set without any is one as well."""
    kept(tmp_path).write(instances)
    found = kept(tmp_path, ahead=3600).read()
    assert found is not None
    assert found[0] == instances
    assert found[1] == pytest.approx(3600, abs=60)


def test_nothing_kept_is_nothing() -> None:
    """Neither a missing file nor a missing folder is an error."""
    assert kept(Path("/nonexistent/folder")).read() is None


def test_a_clock_that_went_back_makes_nothing_younger_than_new(tmp_path: Path) -> None:
    """The age is only shown; it is never negative."""
    kept(tmp_path).write(THREE)
    found = kept(tmp_path, ahead=-3600).read()
    assert found is not None
    assert found[1] == 0.0


def test_each_registry_and_service_has_a_file_of_its_own(tmp_path: Path) -> None:
    """The same name in two datacenters is two services, and no name leads out of the folder."""
    places = [kept(tmp_path), kept(tmp_path, "consul://10.0.3.2:8500?dc=west"), kept(tmp_path, service="../../etc/user")]
    for place in places:
        place.write([])
    assert len({place.path for place in places}) == 3
    assert sorted(tmp_path.iterdir()) == sorted(place.path for place in places)


def test_the_folder_is_made_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Addresses inside a network are nobody else's business."""
    place = kept(tmp_path / "state" / "snapshots")
    place.write(THREE)
    assert stat.S_IMODE(place.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.path.parent.stat().st_mode) == 0o700


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old file is whole, and no half one lies beside it."""
    place = kept(tmp_path)
    place.write(THREE)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        place.write([])
    assert list(tmp_path.iterdir()) == [place.path]
    found = place.read()
    assert found is not None
    assert found[0] == THREE


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    """Several processes write one file and read it meanwhile: each read is one of the sets that were written."""
    sets = [THREE[:1] * 500, THREE[1:2] * 2000]
    done = threading.Event()

    def write(instances: list[Instance]) -> None:
        while not done.is_set():
            kept(tmp_path).write(instances)

    kept(tmp_path).write(sets[0])
    writers = [threading.Thread(target=write, args=(each,)) for each in sets]
    for writer in writers:
        writer.start()
    try:
        seen = [kept(tmp_path).read() for _ in range(100)]
    finally:
        done.set()
        for writer in writers:
            writer.join()
    assert all(found is not None and found[0] in sets for found in seen)
    assert list(tmp_path.iterdir()) == [kept(tmp_path).path]


def broken(**changes: Any) -> bytes:
    said = {"mizzen": VERSION, "registry": CONSUL, "service": "user", "instances": [{"id": "a", "service": "user"} | AT]}
    return json.dumps(said | changes).encode()


AT = {"host": "10.0.0.1", "port": 80}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "damaged"),
        (b"\0" * 100, "damaged"),
        (broken()[:-10], "damaged"),
        (b"[]", "damaged"),
        (b'{"instances": []}', "damaged"),
        (b'{"more": ' + b"[" * 100_000, "damaged"),
        (broken(service="@").replace(b"@", b"\xff"), "damaged"),
        (broken(instances=[{"id": "a"}]), "damaged"),
        (broken(instances=[{"id": "a", "service": "user", "host": "10.0.0.1", "port": "80"}]), "damaged"),
        (broken(mizzen=VERSION + 1), f"version {VERSION + 1}, not {VERSION}"),
        (b'{"mizzen": 2, "another": "form"}', "version 2, not 1"),
        (broken(registry="consul://elsewhere:8500"), "it is of user at consul://elsewhere:8500"),
        (broken(service="stock"), f"it is of stock at {CONSUL}"),
        (broken(instances=[{"id": "a", "service": "user", "host": "/run/docker.sock", "port": 80}]), "no address"),
        (broken(instances=[{"id": "a", "service": "user", "host": "", "port": 80}]), "no address"),
        (broken(instances=[{"id": "a", "service": "user", "host": "unix:docker.sock", "port": 80}]), "no address"),
        (broken(instances=[{"id": "a", "service": "user", "host": "\u00fc..", "port": 80}]), "no address"),
        (broken(instances=[{"id": "a", "service": "user", "host": "10.0.0.1", "port": 0}]), "no address"),
        (broken(instances=[{"id": "a", "service": "user", "host": "10.0.0.1", "port": 65536}]), "no address"),
        (b" " * (LARGEST + 1), f"more than {LARGEST} bytes"),
    ],
)
def test_a_file_that_is_not_ours_or_not_whole_is_not_used(tmp_path: Path, data: bytes, why: str) -> None:
    """Damaged, cut off, of another version, registry or service, or with an address that no registry gives."""
    place = kept(tmp_path)
    place.path.write_bytes(data)
    with pytest.raises(Unusable, match=why.replace("?", r"\?")):
        place.read()


def test_a_file_of_a_later_version_with_more_in_it_is_read(tmp_path: Path) -> None:
    """Fields that are unknown are left out as long as the form is the same."""
    place = kept(tmp_path)
    place.path.write_bytes(broken(more={"of": "it"}))
    found = place.read()
    assert found is not None
    assert [each.id for each in found[0]] == ["a"]
