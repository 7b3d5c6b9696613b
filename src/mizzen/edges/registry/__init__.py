"""The embedded registry: the subset of Consul's HTTP API that the Consul driver uses, for development and tests.

It keeps nothing and is a plain `Handler`. What it does not support it refuses with a message, never in silence:
`Registry` (what one holds) · ``guard`` (who may ask) · ``routes`` (which endpoint answers), and these: ``agent``,
``agent_checks``, ``catalog``, ``catalog_writes``, ``transactions``, ``about`` · ``query`` (parameters) · ``fields``,
``parse``, ``parse_catalog``, ``targets`` (bodies) · ``admission`` (how much is let in) · ``refusal`` (saying no) · ``model``
(nodes, services, checks) · ``state`` (what is known) · ``index`` (what changed, and who waits for it) · ``blocking``
(queries that wait) · ``timetable`` (which check is due when) · ``checks`` (expiry and probes) · ``render`` (Consul's JSON)
· ``faults`` (switches for tests).
"""

from .faults import Faults
from .model import UNVERIFIED
from .registry import Registry

__all__ = ["UNVERIFIED", "Faults", "Registry"]
