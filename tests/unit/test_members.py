"""Members: processes that share one address, each held open here as a member of its own."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from mizzen.assembly.members import Members, SharedRegistrar
from mizzen.rules.discovery import Instance

ID = "order-10.0.0.1-8102"


class Registry:
    """A registrar that only remembers."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def register(self, instance: Instance, verdict: str, note: str) -> None:
        self.told.append(f"register {verdict}")

    async def beat(self, instance: Instance, verdict: str, note: str) -> bool:
        self.told.append(f"beat {verdict}")
        return True

    async def withdraw(self, instance: Instance) -> None:
        self.told.append("withdraw")

    async def mismatch(self, instance: Instance) -> str | None:
        return "a reason"


def test_members_share_the_boot_id_of_the_first(tmp_path: Path) -> None:
    """Whoever joins later is the same life of the instance."""
    first, second = Members(ID, "one", tmp_path), Members(ID, "two", tmp_path)
    assert (first.boot, second.boot) == ("one", "one")
    assert (first.leave(), second.leave()) == (True, False)


def test_when_all_have_left_a_new_life_begins(tmp_path: Path) -> None:
    """The next first member brings its own boot id, shorter than the old one or not."""
    assert Members(ID, "a longer one", tmp_path).leave() is False
    again = Members(ID, "b", tmp_path)
    assert again.boot == "b"
    assert (again.leave(), again.leave()) == (False, False)


def test_somebody_stays_as_long_as_anybody_does(tmp_path: Path) -> None:
    """A member that joins while another one leaves keeps the life going."""
    first, second = Members(ID, "one", tmp_path), Members(ID, "two", tmp_path)
    assert first.leave()
    third = Members(ID, "three", tmp_path)
    assert third.boot == "one"
    assert second.leave()
    assert not third.leave()


def test_other_instances_are_others(tmp_path: Path) -> None:
    """Another port, or an id with signs that no file name has, is another group."""
    here, there = Members(ID, "one", tmp_path), Members("order/../x:y-8103", "two", tmp_path)
    assert (here.boot, there.boot) == ("one", "two")
    assert not here.leave()
    assert not there.leave()
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_not_a_file_of_ours_is_refused(tmp_path: Path) -> None:
    """A link in the way is not followed, a folder that is not there is an error, and nothing is left open."""
    before = len(list(Path("/dev/fd").iterdir()))
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f"mizzen-{os.getuid()}-{ID}.lock").symlink_to(victim)
    with pytest.raises(OSError):
        Members(ID, "one", tmp_path)
    with pytest.raises(OSError):
        Members(ID, "one", tmp_path / "nowhere")
    assert victim.read_text() == "precious"
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_only_the_last_member_withdraws(tmp_path: Path) -> None:
    """Each registers and beats; the registry is left when nobody serves any more."""

    async def main() -> None:
        registry = Registry()
        instance = Instance(id=ID, service="order", host="10.0.0.1", port=8102)
        members = [SharedRegistrar(registry, Members(ID, str(number), tmp_path)) for number in range(3)]
        for member in members:
            await member.register(instance, "passing", "")
            assert await member.beat(instance, "warning", "")
            assert await member.mismatch(instance) == "a reason"
        assert registry.told == ["register passing", "beat warning"] * 3
        for member in members:
            assert "withdraw" not in registry.told
            await member.withdraw(instance)
        assert registry.told[-1] == "withdraw"

    asyncio.run(main())
