"""Protocols: what reads a registry, what writes one, and where the readers put what they read. No policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mizzen.words.errors import CallError

from .instance import Instance


class DuplicateId(CallError):
    """Another life has the id of our instance in the registry; the text names both, and the fix."""


class Outdated(CallError):
    """The registry has our instance otherwise than it should: register again. The text says what the registry had or was,
    such as ``had our entry edited``."""


class Feed(Protocol):
    """Where a resolver puts what it read."""

    def snapshot(self, instances: Sequence[Instance], *, regressed: bool = False) -> bool:
        """Take the complete set as the registry has it; True asks to read again at once, the set is suspect.

        ``regressed`` says that the registry's own index went back since the read before.
        """
        ...

    def error(self, error: Exception) -> None:
        """The registry could not be read."""
        ...


class Resolver(Protocol):
    """Reads one registry."""

    async def watch(self, service: str, feed: Feed) -> None:
        """Feed every change of ``service`` until cancelled; errors go to the feed, never to the caller."""
        ...


class Refreshing(Resolver, Protocol):
    """A resolver that can be told to look again before its time; most are told of changes anyway."""

    def refresh(self, service: str) -> None:
        """A connection to an instance of ``service`` failed: look again soon. Never waits; the driver limits the rate."""
        ...


class Registrar(Protocol):
    """Writes one registry. A verdict is ``passing``, ``warning`` or ``critical``; a note stays the same while the
    verdict does, since registries write every change of it to disk.

    Every method raises ``CallError`` when the registry cannot be reached or refuses. Once an instance was registered,
    ``register`` and ``beat`` raise ``DuplicateId`` when another life has its place: it is not fought for. ``beat`` raises
    ``Outdated`` for what is to be registered again although the registry knows it.
    """

    async def register(self, instance: Instance, verdict: str, note: str) -> None:
        """Announce ``instance`` with its current verdict; safe to repeat."""
        ...

    async def beat(self, instance: Instance, verdict: str, note: str) -> bool:
        """Say that the instance lives; False when the registry does not know it: register again."""
        ...

    async def withdraw(self, instance: Instance) -> None:
        """Remove this life of ``instance``; another life under the same id is left alone."""
        ...

    async def mismatch(self, instance: Instance) -> str | None:
        """Why the registry keeps ``instance`` out although its beats pass, and the fix; None while it does not."""
        ...
