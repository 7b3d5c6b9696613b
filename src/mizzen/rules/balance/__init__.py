"""Balance: which instance gets the next attempt, and which are left out for a while because they fail."""

from .balancer import EJECT_AFTER, EJECT_BASE, EJECT_JITTER, EJECT_MOST, LEAVE, PANIC_BELOW, Balancer
from .endpoint import DECAY, FIRST_GUESS, LEAST, PENALTY, PENALTY_MOST, Connection, Endpoint, Known, State

__all__ = [
    "DECAY",
    "EJECT_AFTER",
    "EJECT_BASE",
    "EJECT_JITTER",
    "EJECT_MOST",
    "FIRST_GUESS",
    "LEAST",
    "LEAVE",
    "PANIC_BELOW",
    "PENALTY",
    "PENALTY_MOST",
    "Balancer",
    "Connection",
    "Endpoint",
    "Known",
    "State",
]
