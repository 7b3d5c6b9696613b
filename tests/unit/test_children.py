"""How processes that we started ended."""

from __future__ import annotations

import pytest

from mizzen.assembly.children import describe_exit


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "exited with 0"),
        (2, "exited with 2"),
        (3, "exited with 3"),
        (-9, "was killed by SIGKILL"),
        (-77, "was killed by signal 77"),
        (-99, "was killed by signal 99"),
    ],
)
def test_how_a_child_ended(code: int, text: str) -> None:
    """A code, a signal with its name, and one that has none, are told in words."""
    assert describe_exit(code) == text
