"""What the registry knows, and the index that every change moves on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mizzen.words.clock import Clock

from .model import OUTPUT, Check, CheckSpec, Service

MAINTENANCE = "_service_maintenance:"
"""How Consul names the check that maintenance mode is."""


class State:
    """Services, their checks and one monotonic index; synchronous, and the only place where they change."""

    def __init__(self, *, clock: Clock, start: int) -> None:
        self.clock = clock
        self.services: dict[str, Service] = {}
        self.checks: dict[str, Check] = {}
        self.index = start
        """Begins above the boot time in milliseconds, so that it goes forwards over a restart."""
        self.generation = 0
        """Counts the times that the past was abandoned: queries that wait must answer then."""
        self.watchers: set[Callable[[], None]] = set()
        self._start = start
        self._by_name: dict[str, int] = {}

    def index_of(self, name: str) -> int:
        """The index of the last change to any instance of that service; survives the service itself."""
        return self._by_name.get(name, self._start)

    # -- services

    def put(self, service: Service, specs: Sequence[CheckSpec], *, replace: bool = False) -> None:
        """Register, or register again: a check that is known keeps its status, one that is not named stays.

        ``replace`` removes the checks that are not named, maintenance mode among them, as Consul does.
        """
        known = self.services.get(service.id)
        if known is None:
            service.created = self.index + 1
            self.services[service.id] = service
            self._touch(service)
        else:
            if known.name != service.name:
                self._touch(known)  # it leaves the one name and comes under the other
            service.created, service.modified, service.checks = known.created, known.modified, known.checks
            self.services[service.id] = service
            for check in service.checks.values():
                check.service = service
            if not known.same(service):
                self._touch(service)
        named = {spec.id for spec in specs}
        for check in [check for id, check in service.checks.items() if replace and id not in named]:
            self.drop_check(check)
        for spec in specs:
            self._put_check(service, spec)

    def _put_check(self, service: Service, spec: CheckSpec) -> None:
        check = Check(spec, service, now=self.clock())
        known = self.checks.get(spec.id)
        if known is not None:
            if known.service is service:
                check.status, check.output, check.since = known.status, known.output, known.since
                check.created, check.modified = known.created, known.modified
            else:  # ids of checks are unique per agent: the later one takes it
                self.drop_check(known)
        service.checks[spec.id] = self.checks[spec.id] = check
        if not check.created:
            check.created = self.index + 1
            self._touch(service, check)

    def remove(self, service: Service) -> None:
        """Deregister a service and its checks."""
        del self.services[service.id]
        for id in service.checks:
            del self.checks[id]
        self._touch(service)

    # -- checks

    def set_status(self, check: Check, status: str, output: str) -> None:
        """Note a result. Output alone does not move the index: Consul, too, writes such a change only now and then."""
        check.output = output if len(output) <= OUTPUT else f"{output[:OUTPUT]} ... (captured {OUTPUT} of {len(output)} bytes)"
        if check.status != status:
            check.status = status
            check.since = self.clock()
            self._touch(check.service, check)

    def drop_check(self, check: Check) -> None:
        del self.checks[check.spec.id]
        del check.service.checks[check.spec.id]
        self._touch(check.service)

    def maintain(self, service: Service, reason: str | None) -> None:
        """Begin maintenance mode, which is a critical check, or end it (None); both are safe to repeat."""
        id = MAINTENANCE + service.id
        known = service.checks.get(id)
        if reason is None:
            if known is not None:
                self.drop_check(known)
        elif known is None:
            spec = CheckSpec(id=id, name="Service Maintenance Mode", kind="maintenance", notes=reason or "no reason given")
            self._put_check(service, spec)

    # -- the past, abandoned

    def forget(self) -> None:
        """Lose everything, as a development agent does when it restarts; the index goes on."""
        for service in list(self.services.values()):
            self.remove(service)
        self.abandon()

    def rewind(self, by: int) -> None:
        """Make the index go back, as it does when a cluster is restored from a backup."""
        self._start -= by
        self.index -= by
        self._by_name = {name: index - by for name, index in self._by_name.items()}
        self.abandon()

    def abandon(self) -> None:
        self.generation += 1
        self._wake()

    def _touch(self, service: Service, check: Check | None = None) -> None:
        self.index += 1
        self._by_name[service.name] = self.index
        if check is None:
            service.modified = self.index
        else:
            check.modified = self.index
        self._wake()

    def _wake(self) -> None:
        for watcher in tuple(self.watchers):
            watcher()
