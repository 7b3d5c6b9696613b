"""Hooks: what happened, as a log record and as metrics."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from mizzen.rules.events import BreakerChanged, Event, Hook, StateChanged

from . import names
from .lines import LEVELS, RESERVED
from .metrics import Metrics

log = logging.getLogger("mizzen.events")


def log_record(event: Event) -> logging.LogRecord:
    """The record of an event: its sentence, and its fields as extras."""
    record = logging.LogRecord(event.logger, LEVELS[event.level], "", 0, event.text(), (), None)
    for key, value in event.fields().items():
        setattr(record, f"{key}_" if key in RESERVED else key, value)
    return record


def log_hook() -> Hook:
    """A hook that logs every event under the event's own logger."""

    def hook(event: Event) -> None:
        logger = logging.getLogger(event.logger)
        if logger.isEnabledFor(LEVELS[event.level]):
            logger.handle(log_record(event))

    return hook


def metrics_hook(metrics: Metrics) -> Hook:
    """A hook that keeps ``mizzen_state`` and ``mizzen_breaker_state`` true."""
    state, breaker = metrics.add(names.STATE), metrics.add(names.BREAKER_STATE)

    def hook(event: Event) -> None:
        if isinstance(event, StateChanged):
            _choose(state, (), names.STATES, event.state)
        elif isinstance(event, BreakerChanged):
            _choose(breaker, (event.peer,), names.BREAKER_STATES, event.state)

    return hook


def declare_peer(metrics: Metrics, peer: str) -> None:
    """Show a peer's breaker as closed before anything happened to it: an alert needs the series to be there."""
    _choose(metrics.add(names.BREAKER_STATE), (peer,), names.BREAKER_STATES, "closed")


def tell(hooks: Iterable[Hook]) -> Hook:
    """One hook for many; one that raises is logged and does not keep the event from the others."""
    each = tuple(hooks)

    def hook(event: Event) -> None:
        for one in each:
            try:
                one(event)
            except Exception:  # watching must not change what is watched
                log.exception("a hook failed on %r", event)

    return hook


def _choose(family: Any, first: tuple[str, ...], states: Iterable[str], chosen: str) -> None:
    for state in states:
        family.labels(*first, state).set(1.0 if state == chosen else 0.0)
