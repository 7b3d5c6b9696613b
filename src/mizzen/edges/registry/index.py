"""One index that only goes forwards, what it was at the last change of each topic, and who waits for that topic."""

from __future__ import annotations

from collections.abc import Callable

SERVICES, CHECKS, NODES = "services", "checks", "nodes"
"""Topics: any change of what is registered, of how any check stands, of the nodes."""


def service_topic(name: str) -> str:
    """The topic of the instances of one service and their checks."""
    return f"service:{name}"


def node_topic(name: str) -> str:
    """The topic of one node, its services and their checks."""
    return f"node:{name}"


class Index:
    """A change wakes those who wait for its topics and nobody else: with 1,000 services watched, one answers."""

    def __init__(self, start: int) -> None:
        self.value = start
        self.generation = 0
        """Counts the times that the past was abandoned: queries that wait must answer then."""
        self._gone = start
        """The index when a topic vanished last: a topic that is not there is as new as that, as in Consul."""
        self._topics: dict[str, int] = {SERVICES: start, CHECKS: start, NODES: start}
        self._waiting: dict[str, set[Callable[[], None]]] = {}

    def of(self, topic: str) -> int:
        """The index of the last change to that topic."""
        return self._topics.get(topic, self._gone)

    def touch(self, *topics: str) -> int:
        """Move the index on by one change that concerns those topics; the new index."""
        self.value += 1
        for topic in topics:
            self._topics[topic] = self.value
        self._wake(topics)
        return self.value

    def end(self, topic: str) -> None:
        """Drop a topic whose last change has been told, so that names that were once in use cost nothing."""
        self._gone = max(self._gone, self._topics.pop(topic, 0))

    def rewind(self, by: int) -> None:
        """Make the index go back, as it does when a cluster is restored from a backup."""
        self.value -= by
        self._gone -= by
        self._topics = {topic: index - by for topic, index in self._topics.items()}
        self.abandon()

    def abandon(self) -> None:
        """Let every query answer, whatever it waits for."""
        self.generation += 1
        self._wake(tuple(self._waiting))

    def watch(self, topic: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back at every change of that topic, until what is returned is called."""
        waiting = self._waiting.setdefault(topic, set())
        waiting.add(callback)

        def stop() -> None:
            waiting.discard(callback)
            if not waiting and self._waiting.get(topic) is waiting:
                del self._waiting[topic]

        return stop

    def _wake(self, topics: tuple[str, ...]) -> None:
        for topic in topics:
            for callback in tuple(self._waiting.get(topic, ())):
                callback()

    def __repr__(self) -> str:
        return f"<Index {self.value}, {len(self._waiting)} topics waited for>"
