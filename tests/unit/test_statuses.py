"""Statuses and their phrases, against the standard library's list."""

from __future__ import annotations

from http import HTTPStatus

from mizzen.words.statuses import PHRASES

RENAMED = {413, 414, 416, 422}
"""RFC 9110 calls them differently than its predecessors, and so does the standard library since 3.13."""


def test_every_registered_status_has_its_phrase() -> None:
    """Ours are the standard library's, whatever its version, but for the four that RFC 9110 renamed."""
    assert {status.value for status in HTTPStatus} <= set(PHRASES)
    assert not [status for status in HTTPStatus if status not in RENAMED and PHRASES[status] != status.phrase]
    assert [PHRASES[status] for status in sorted(RENAMED)] == [
        "Content Too Large",
        "URI Too Long",
        "Range Not Satisfiable",
        "Unprocessable Content",
    ]
