"""A start while the registry is away, in a real process: what an earlier life knew is on disk."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from fleet import Fleet, ask, until

from mizzen.edges.snapshots import SnapshotFile
from mizzen.rules.discovery import Instance

pytestmark = pytest.mark.wire

AWAY = "consul://127.0.0.1:9"
"""The port of discard, where nobody listens."""


def test_a_service_starts_and_calls_its_peer_although_the_registry_is_away(tmp_path: Path) -> None:
    """It serves within seconds, its calls are answered, and /health says from where it knows its peer and how old that is."""
    with Fleet(tmp_path) as fleet:
        user = fleet.start("user")
        user.ready()
        kept = [Instance("user-1", "user", "127.0.0.1", user.port)]
        SnapshotFile(tmp_path / "kept", AWAY, "user", wall=time.time).write(kept)
        order = fleet.start(
            "order", settings={"MIZZEN__DISCOVERY__URL": AWAY, "MIZZEN__DISCOVERY__SNAPSHOTS": str(tmp_path / "kept")}
        )
        order.ready()
        assert ask(f"{order.url}/orders/1").status == 200
        known = ask(f"{order.url}/health").json()["discovery"]["user"]
        assert (known["registry"], known["state"], known["instances"]) == (AWAY, "stale", 1)
        lines = until(lambda: [json.loads(line) for line in order.stdout.splitlines() if '"mizzen.discovery"' in line], "lines")
        assert [line["event"] for line in lines if line["event"].startswith("registry_lost")] == ["registry_lost"]
        assert [line["total"] for line in lines if line["event"] == "snapshot_recalled"] == [1]


def test_a_disk_that_hangs_holds_up_neither_start_nor_stop(tmp_path: Path) -> None:
    """A pipe that nobody writes to stands for it: the service serves, knows nobody, and stops as it should."""
    with Fleet(tmp_path) as fleet:
        kept = SnapshotFile(tmp_path / "kept", AWAY, "user", wall=time.time)
        kept.path.parent.mkdir()
        os.mkfifo(kept.path)
        order = fleet.start(
            "order",
            settings={"MIZZEN__DISCOVERY__URL": AWAY, "MIZZEN__DISCOVERY__SNAPSHOTS": str(tmp_path / "kept")},
        )
        order.ready()
        assert ask(f"{order.url}/health").json()["discovery"]["user"]["state"] == "never"
        assert order.stop() == 0
        assert "did not end" not in order.stderr
