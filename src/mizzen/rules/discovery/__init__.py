"""Discovery: what an instance is, and what a change in a registry's answer means to those who call.

Drivers hold no policy. A `Resolver` feeds complete snapshots or errors into an `EndpointStore`, and the store
decides what the callers see: a registry that is lost, or has lost its memory, never takes traffic away.
"""

from typing import TYPE_CHECKING

from mizzen.words.lazy import lazily

if TYPE_CHECKING:
    from .happenings import Back, Changed, Held, Lost, Recalled, StoreEvent
    from .instance import Instance, instance_id, is_host
    from .protocols import DuplicateId, Feed, Outdated, Refreshing, Registrar, Resolver
    from .store import HOLD, LONGEST, SUSPECT_SHARE, EndpointStore, State
else:
    __getattr__ = lazily(
        __name__,
        {
            ".happenings": "Back Changed Held Lost Recalled StoreEvent",
            ".instance": "Instance instance_id is_host",
            ".protocols": "DuplicateId Feed Outdated Refreshing Registrar Resolver",
            ".store": "HOLD LONGEST SUSPECT_SHARE EndpointStore State",
        },
    )

__all__ = [
    "HOLD",
    "LONGEST",
    "SUSPECT_SHARE",
    "Back",
    "Changed",
    "DuplicateId",
    "EndpointStore",
    "Feed",
    "Held",
    "Instance",
    "Lost",
    "Outdated",
    "Recalled",
    "Refreshing",
    "Registrar",
    "Resolver",
    "State",
    "StoreEvent",
    "instance_id",
    "is_host",
]
