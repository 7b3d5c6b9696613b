"""What happened: frozen records that logs, metrics and the dashboard all read, each with its own sentence.

A sentence says what happened, why, what it touches and, where somebody can do something, what to do.
"""

from typing import TYPE_CHECKING

from mizzen.words.lazy import lazily

if TYPE_CHECKING:
    from .calling import BreakerChanged, BudgetExhausted, Change, Ejected, Readmitted, breaker_changed
    from .finding import (
        IdTaken,
        Registered,
        RegistryBack,
        RegistryLost,
        RegistryRefused,
        SnapshotChanged,
        SnapshotHeld,
        SnapshotRecalled,
        Withdrawn,
    )
    from .record import CheckChanged, Event, Hook, LinesDropped, Record, StateChanged, StepTaken
else:
    __getattr__ = lazily(
        __name__,
        {
            ".calling": "BreakerChanged BudgetExhausted Change Ejected Readmitted breaker_changed",
            ".finding": """
                IdTaken Registered RegistryBack RegistryLost RegistryRefused SnapshotChanged SnapshotHeld SnapshotRecalled
                Withdrawn
            """,
            ".record": "CheckChanged Event Hook LinesDropped Record StateChanged StepTaken",
        },
    )

__all__ = [
    "BreakerChanged",
    "BudgetExhausted",
    "Change",
    "CheckChanged",
    "Ejected",
    "Event",
    "Hook",
    "IdTaken",
    "LinesDropped",
    "Readmitted",
    "Record",
    "Registered",
    "RegistryBack",
    "RegistryLost",
    "RegistryRefused",
    "SnapshotChanged",
    "SnapshotHeld",
    "SnapshotRecalled",
    "StateChanged",
    "StepTaken",
    "Withdrawn",
    "breaker_changed",
]
