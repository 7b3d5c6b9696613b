"""What the registry knows: synchronous, and the only place where it changes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from mizzen.words.clock import Clock

from .index import CHECKS, NODES, SERVICES, Index, node_topic, service_topic
from .model import ADDRESS, NODE, NODE_ID, SERF, Check, CheckSpec, Node, Service
from .timetable import Timetable

MAINTENANCE, NODE_MAINTENANCE = "_service_maintenance:", "_node_maintenance"
"""How Consul names the checks that maintenance mode is."""
NO_REASON = "Maintenance mode is enabled for this {}, but no reason was provided. This is a default message."
OUTPUT = 4096
"""Characters of a check's output that are kept; Consul keeps as many bytes."""


class State:
    """Nodes, services, their checks and the index; every change is told to those whom it concerns."""

    def __init__(self, *, clock: Clock, start: int) -> None:
        self.clock = clock
        self.index = Index(start)
        """Begins above the boot time in milliseconds, so that it goes forwards over a restart."""
        self.timetable = Timetable()
        self.local = Node(
            name=NODE,
            id=NODE_ID,
            address=ADDRESS,
            tagged=dict.fromkeys(("lan", "lan_ipv4", "wan", "wan_ipv4"), ADDRESS),
            meta={"consul-network-segment": "", "embedded": "mizzen"},
            created=start,
            modified=start,
        )
        self.nodes = {NODE: self.local}
        self._named: dict[str, dict[tuple[str, str], Service]] = {}
        self.instances = 0
        self._alive()

    # -- reading

    def named(self, name: str) -> list[Service]:
        """The instances of a service, by node and id."""
        instances = self._named.get(name, {})
        return [instances[key] for key in sorted(instances)]

    def names(self) -> list[str]:
        """The services of which there are instances."""
        return sorted(self._named)

    def checks(self) -> list[Check]:
        """Every check, by node and id."""
        nodes = [self.nodes[name] for name in sorted(self.nodes)]
        return list(chain.from_iterable([node.checks[id] for id in sorted(node.checks)] for node in nodes))

    # -- nodes

    def put_node(self, node: Node) -> Node:
        """Enter a node into the catalog, or what is new about one that is there; the one that is there from now on."""
        known = self.nodes.get(node.name)
        if known is None:
            self.nodes[node.name] = node
            node.created = node.modified = self.index.touch(NODES, node_topic(node.name))
            return node
        if not known.same(node):
            known.id, known.address, known.tagged, known.meta = node.id, node.address, node.tagged, node.meta
            known.modified = self.index.touch(NODES, *self._everything_on(known))
        return known

    def remove_node(self, node: Node) -> None:
        """Remove a node with everything on it."""
        for service in list(node.services.values()):
            self.remove(service)
        for check in list(node.own.values()):
            self.drop_check(check)
        del self.nodes[node.name]
        self.index.touch(NODES, node_topic(node.name))
        self.index.end(node_topic(node.name))

    # -- services

    def put(self, service: Service, specs: Sequence[CheckSpec], *, replace: bool = False) -> None:
        """Register, or register again: a check that is known keeps its status, one that is not named stays.

        ``replace`` removes the checks that are not named, maintenance mode among them, as Consul does.
        """
        known = service.node.services.get(service.id)
        if known is None:
            service.node.services[service.id] = service
            self._enter(service)
            self._touch_service(service)
            service.created = service.modified
        else:
            service.created, service.modified, service.checks = known.created, known.modified, known.checks
            if known.name != service.name:
                self._leave(known)  # it leaves the one name and comes under the other
            service.node.services[service.id] = service
            self._enter(service)
            for check in service.checks.values():
                check.service = service
            if not known.same(service):
                self._touch_service(service)
                if service.checks and (known.name, known.tags) != (service.name, service.tags):
                    self.index.touch(CHECKS)  # they show both
        named = {spec.id for spec in specs}
        for check in [check for id, check in service.checks.items() if replace and id not in named]:
            self.drop_check(check)
        for spec in specs:
            self.put_check(spec, service.node, service)

    def remove(self, service: Service) -> None:
        """Deregister a service and its checks."""
        del service.node.services[service.id]
        for id, check in service.checks.items():
            del service.node.checks[id]
            self.timetable.drop(check)
        if service.checks:
            self.index.touch(CHECKS)
        self._leave(service)

    # -- checks

    def put_check(self, spec: CheckSpec, node: Node, service: Service | None, *, keep: bool = True) -> None:
        """Register a check; one that is known keeps its status, unless the registration says how it stands."""
        check = Check(spec, node, service, now=self.clock())
        known = node.checks.get(spec.id)
        if known is not None:
            if known.service is service:
                check.created, check.modified = known.created, known.modified
                if keep:
                    check.status, check.output = known.status, known.output
                if known.status == check.status:
                    check.since = known.since
                self.timetable.drop(known)
            else:  # ids of checks are unique per node: the later one takes it
                self.drop_check(known)
                known = None
        (node.own if service is None else service.checks)[spec.id] = node.checks[spec.id] = check
        self.timetable.plan(check)
        if known is None or not known.same(check):
            self._touch_check(check)
            check.created = check.created or check.modified

    def beat(self, check: Check, status: str, output: str) -> None:
        """A heartbeat came: it is good for one more TTL. One that says nothing new moves nothing and wakes nobody."""
        check.due = self.clock() + check.spec.ttl
        self.set_status(check, status, output)
        self.timetable.plan(check)

    def set_status(self, check: Check, status: str, output: str) -> None:
        """Note a result; whoever does so plans the check anew.

        Output alone does not move the index: Consul, too, writes such a change only now and then.
        """
        long = len(output) > OUTPUT
        check.output = f"{output[:OUTPUT]} ... (captured {OUTPUT} of {len(output)} characters)" if long else output
        if check.status != status:
            check.status = status
            check.since = self.clock()
            self._touch_check(check)

    def drop_check(self, check: Check) -> None:
        del check.node.checks[check.spec.id]
        del (check.node.own if check.service is None else check.service.checks)[check.spec.id]
        self.timetable.drop(check)
        self._touch_check(check)

    def maintain(self, service: Service | None, reason: str | None) -> None:
        """Begin maintenance mode of a service, or of the agent's node, or end it (None); both are safe to repeat.

        It is a critical check.
        """
        node, what = (service.node, "Service") if service else (self.local, "Node")
        id = f"{MAINTENANCE}{service.id}" if service else NODE_MAINTENANCE
        known = node.checks.get(id)
        if reason is None:
            if known is not None:
                self.drop_check(known)
        elif known is None:
            name, notes = f"{what} Maintenance Mode", reason or NO_REASON.format(what.lower())
            self.put_check(CheckSpec(id=id, name=name, kind="maintenance", notes=notes), node, service)

    # -- the past, abandoned

    def forget(self) -> None:
        """Lose everything, as a development agent does when it restarts; the index goes on."""
        for node in list(self.nodes.values()):
            if node is not self.local:
                self.remove_node(node)
        for service in list(self.local.services.values()):
            self.remove(service)
        for check in list(self.local.own.values()):
            if check.spec.id != SERF:
                self.drop_check(check)
        self.index.abandon()

    def _alive(self) -> None:
        """The node's own check, which every agent has; ours passes as long as it answers."""
        spec = CheckSpec(id=SERF, name="Serf Health Status", kind="", status="passing", output="Agent alive and reachable")
        self.put_check(spec, self.local, None)

    def _enter(self, service: Service) -> None:
        instances = self._named.setdefault(service.name, {})
        self.instances += (service.node.name, service.id) not in instances
        instances[service.node.name, service.id] = service

    def _leave(self, service: Service) -> None:
        """Take an instance from under its name."""
        instances = self._named[service.name]
        del instances[service.node.name, service.id]
        self.instances -= 1
        self._touch_service(service)
        if not instances:
            del self._named[service.name]
            self.index.end(service_topic(service.name))

    def _touch_service(self, service: Service) -> None:
        topics = service_topic(service.name), node_topic(service.node.name)
        service.modified = self.index.touch(SERVICES, *topics)

    def _touch_check(self, check: Check) -> None:
        if check.service is None:
            topics = self._everything_on(check.node)
        else:
            topics = [service_topic(check.service.name), node_topic(check.node.name)]
        check.modified = self.index.touch(CHECKS, *topics)

    def _everything_on(self, node: Node) -> list[str]:
        """What a change of a node itself concerns: every service on it."""
        return [node_topic(node.name), *{service_topic(service.name) for service in node.services.values()}]
