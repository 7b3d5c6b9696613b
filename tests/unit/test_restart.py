"""When what died is started again."""

from __future__ import annotations

from mizzen.rules.restart import HEALTHY, Backoff


def test_restarts_become_rarer() -> None:
    """Each wait is twice the last one, up to ten seconds; a life that was long enough, or a change, forgets them."""
    backoff = Backoff(0.5)
    assert [backoff.after(1.0) for _ in range(7)] == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert [backoff.after(HEALTHY), backoff.after(HEALTHY - 0.1)] == [0.5, 1.0]
    backoff.reset()
    assert backoff.after(0.1) == 0.5
