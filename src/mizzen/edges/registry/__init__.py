"""The embedded registry: the subset of Consul's HTTP API that the Consul driver uses, for development and tests.

It keeps nothing and is a plain `Handler`. What it does not support it refuses with a message, never in silence:
`Registry` (what one holds) · ``state`` (services, checks, the index) · ``model`` (their records and JSON) ·
``parse`` (registrations) · ``query`` (parameters) · ``guard`` (who may ask) · ``agent`` and ``catalog`` (the
endpoints) · ``blocking`` (queries that wait) · ``checks`` (expiry and probes) · ``faults`` (switches for tests).
"""

from .faults import Faults
from .model import UNVERIFIED
from .registry import Registry

__all__ = ["UNVERIFIED", "Faults", "Registry"]
