"""The embedded registry: the subset of Consul's HTTP API that the Consul driver uses, for development and tests.

It keeps nothing and is a plain `Handler`. What it does not support it refuses with a message, never in silence:
`Registry` (what one holds) · ``routes`` (its endpoints) · ``model`` (nodes, services, checks) · ``state`` (what is known)
· ``index`` (what changed, and who waits for it) · ``timetable`` (which check is due when) · ``render`` (Consul's JSON) ·
``fields``, ``parse``, ``parse_catalog``, ``targets`` (registrations) · ``query`` (parameters) · ``guard`` (who may ask) ·
``agent``, ``agent_checks``, ``catalog``, ``catalog_writes``, ``transactions``, ``about`` (the endpoints) · ``blocking``
(queries that wait) · ``checks`` (expiry and probes) · ``faults`` (switches for tests).
"""

from .faults import Faults
from .model import UNVERIFIED
from .registry import Registry

__all__ = ["UNVERIFIED", "Faults", "Registry"]
