"""Switches by which a test makes the registry fail as real ones do."""

from __future__ import annotations

from .state import State


class Faults:
    """Off when made. The first four last until they are set back; the methods happen once."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.clear()

    def clear(self) -> None:
        """Switch every fault off."""
        self.path = ""
        """Only requests whose path begins so are delayed or given ``status``."""
        self.delay = 0.0
        """Seconds before each answer."""
        self.status: int | None = None
        """The status of every answer, such as 429 or 500; nothing is done then."""
        self.filtered = False
        """Reads answer an empty set, marked as filtered: a token that lacks rights."""
        self.index: int | None = None
        """The index that every read claims, such as 0."""

    def concern(self, path: str) -> bool:
        """Whether ``delay`` and ``status`` hold for that path."""
        return path.startswith(self.path)

    def drop_state(self) -> None:
        """Forget every service, as a development agent that restarts; the index goes on."""
        self._state.forget()

    def index_back(self, by: int = 1_000_000) -> None:
        """Make the index go back and wake every query that waits."""
        self._state.rewind(by)

    def __repr__(self) -> str:
        on = [f"{name}={value}" for name, value in vars(self).items() if value and not name.startswith("_")]
        return f"<Faults {', '.join(on) or 'off'}>"
