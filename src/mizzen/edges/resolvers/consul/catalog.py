"""Consul's catalog, written: for what has no agent of its own, https://developer.hashicorp.com/consul/api-docs/catalog.

An instance is a service on a node of its own, which no agent has: the anti-entropy of an agent removes what it does not
know from its node. Nobody makes checks here and nothing expires: an instance that dies without a word stays as it was,
unless consul-esm looks at it, which the node's metadata and the probe's definition ask it to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from mizzen.rules.discovery import Instance
from mizzen.words.clock import Clock, format_duration, monotonic
from mizzen.words.errors import PeerError
from mizzen.words.handler import Handler
from mizzen.words.lazy import pattern
from mizzen.words.message import Response

from .agent import PEER, Agent, decoded, filtered, refused, segment
from .entry import (
    HTTP_INTERVAL,
    Entry,
    Standing,
    duplicate,
    fields_of,
    health_url,
    http_check_id,
    outdated,
    probe_of,
    ttl_check_id,
)

LOOK = 15.0
"""Seconds between looks at whether the entry is still there: as soon as an agent would miss a heartbeat. In between a
beat costs nothing, since each write of the catalog goes through the consensus of all servers."""
WITHDRAWALS = 3
"""Tries to remove an entry that is edited between read and removal."""
EXTERNAL = {"external-node": "true", "external-probe": "true"}
"""Node metadata that make consul-esm watch the node and run its checks."""

_ELSE = pattern(r"[^A-Za-z0-9]+")


class ConsulCatalogRegistrar:
    """Keeps the catalog told about instances, through any agent or server. Raises ``CallError`` when that fails.

    ``dc`` writes to another datacenter; ``http_check`` describes the probe that consul-esm then makes.
    """

    def __init__(
        self,
        call: Handler,
        *,
        token: Callable[[], str | None],
        dc: str | None = None,
        http_check: bool = True,
        health_path: str = "/health",
        health_port: int | None = None,
        look: float = LOOK,
        clock: Clock = monotonic,
    ) -> None:
        self._agent = Agent(call, token=token, clock=clock)
        self._clock = clock
        self._dc = dc
        self._http_check = http_check
        self._health_path = health_path
        self._health_port = health_port
        self._look = look
        self._standing: dict[str, Standing] = {}
        self._said: dict[str, tuple[str, str]] = {}

    async def register(self, instance: Instance, verdict: str, note: str) -> None:
        """Announce ``instance`` with its current verdict; safe to repeat. The first time it takes the place of an
        earlier life; ``DuplicateId`` when another one has taken its place since."""
        # Read before it is written: a server that hangs gets no registration that it could act on when we are gone.
        entry, _ = await self._read(instance, f"registering {instance.id}")
        known = self._standing.get(instance.id)
        if entry is not None and known is not None and known.boot == instance.boot and entry.boot not in ("", instance.boot):
            raise duplicate(instance, entry, self._clock() - known.looked)
        service = {**fields_of(instance), "Service": instance.service}
        await self._put(instance, {"Service": service, "Checks": self._checks(instance, verdict, note)})
        now = self._clock()
        self._standing[instance.id] = Standing(instance.boot, now, now)
        self._said[instance.id] = (verdict, note)

    async def beat(self, instance: Instance, verdict: str, note: str) -> bool:
        """Write the verdict when it is another one, and look now and then whether the entry is there; False when not.

        ``DuplicateId`` when another life has the id, ``Outdated`` when what is there is not what was registered.
        """
        known = self._standing.get(instance.id)
        if known is None or known.boot != instance.boot:
            return False
        changed = self._said[instance.id] != (verdict, note)
        if not changed and self._clock() - known.looked < self._look:
            return True
        known.looked = min(known.looked, self._clock() - self._look)  # until this look succeeds the next beat looks too
        if not await self._stands(instance, known):
            return False
        if changed:
            await self._put(instance, {"SkipNodeUpdate": True, "Check": self._checks(instance, verdict, note)[0]})
            self._said[instance.id] = (verdict, note)
        known.looked = self._clock()
        return True

    async def withdraw(self, instance: Instance) -> None:
        """Remove this life of ``instance``, if it is still there at that very moment, and its node when nothing is left."""
        doing = f"withdrawing {instance.id}"
        for _ in range(WITHDRAWALS):
            entry, others = await self._read(instance, doing)
            if entry is None or entry.boot != instance.boot:
                return
            node = node_of(instance)
            service = {"ID": instance.id, "Service": instance.service, "ModifyIndex": entry.modify_index}
            steps: list[dict[str, Any]] = [{"Service": {"Verb": "delete-cas", "Node": node, "Service": service}}]
            if not others:
                steps.append({"Node": {"Verb": "delete", "Node": {"Node": node}}})
            # one transaction: where a life took the place since the read, the index is another and nothing is removed
            response = await self._agent.put("/v1/txn", steps, query=self._query())
            if response.status == 200:
                return
            if response.status != 409:
                raise refused(response, doing)
        raise PeerError(f"{instance.id} changes in consul's catalog as fast as it is read", peer=PEER)

    async def mismatch(self, instance: Instance) -> str | None:
        """Why Consul keeps the instance out although it passes: what consul-esm, or an operator, says of its node."""
        checks = {each.check_id: each for each in await self._read_checks(instance, f"reading the checks of {instance.id}")}
        verdict = checks.pop(ttl_check_id(instance), None)
        if verdict is None or verdict.status != "passing":
            return None
        for id, each in checks.items():
            if each.status != "passing":
                why = each.output.strip()[:200] or each.notes or "no reason given"
                return (
                    f"consul keeps {instance.id} out: {id} is {each.status} ({why}) while we pass; make its address reachable"
                    " from where consul-esm runs, or set discovery.http_check = false"
                )
        return None

    # -- one request each

    async def _put(self, instance: Instance, what: dict[str, Any]) -> None:
        node = {"Node": node_of(instance), "Address": instance.host, "NodeMeta": EXTERNAL}
        response = await self._agent.put(
            "/v1/catalog/register", {**node, **({"Datacenter": self._dc} if self._dc else {}), **what}
        )
        if response.status != 200:
            raise refused(response, f"registering {instance.id} in the catalog")

    async def _read(self, instance: Instance, doing: str) -> tuple[_CatalogEntry | None, int]:
        """The entry, and how many others its node has."""
        path = f"/v1/catalog/node-services/{segment(node_of(instance))}"
        services = decoded(await self._get(path, doing), _Node, doing).services or []
        entry = next((each for each in services if each.id == instance.id), None)
        return entry, len(services) - (entry is not None)

    async def _read_checks(self, instance: Instance, doing: str) -> list[_Check]:
        path = f"/v1/health/node/{segment(node_of(instance))}"
        return [
            each for each in decoded(await self._get(path, doing), list[_Check], doing) if each.service_id in ("", instance.id)
        ]

    async def _get(self, path: str, doing: str) -> Response:
        response = await self._agent.get(path, query=self._query())
        if response.status != 200:
            raise refused(response, doing)
        if filtered(response):  # not there, or not for us to see: nobody may take the one for the other
            raise PeerError(f"consul left out what this token may not read while {doing} (it needs node:read)", peer=PEER)
        return response

    # -- what is looked at now and then

    async def _stands(self, instance: Instance, known: Standing) -> bool:
        doing = f"verifying the registration of {instance.id}"
        entry, _ = await self._read(instance, doing)
        if entry is None:
            return False
        if entry.boot not in ("", instance.boot):
            raise duplicate(instance, entry, self._clock() - known.beat)
        known.beat = self._clock()
        statuses = {each.check_id: each.status for each in await self._read_checks(instance, doing)}
        if not entry.says(instance):
            raise outdated("had our entry edited")
        if statuses.get(ttl_check_id(instance)) != self._said[instance.id][0]:
            raise outdated("had our verdict edited or removed")
        return True

    def _checks(self, instance: Instance, verdict: str, note: str) -> list[dict[str, Any]]:
        common = {"Node": node_of(instance), "ServiceID": instance.id, "Status": verdict}
        checks: list[dict[str, Any]] = [{**common, "CheckID": ttl_check_id(instance), "Name": "verdict", "Output": note}]
        if self._http_check:
            probe = probe_of(health_url(instance, self._health_path, self._health_port), HTTP_INTERVAL)
            checks.append({**common, "CheckID": http_check_id(instance), "Name": "health", "Definition": probe})
        return checks

    def _query(self) -> dict[str, str]:
        return {"dc": self._dc} if self._dc else {}

    def describe(self) -> dict[str, object]:
        """How instances are registered."""
        return {"backend": "consul catalog", "look_s": self._look, "http_check": self._http_check, "health": self._health_path}

    def __repr__(self) -> str:
        return f"<ConsulCatalogRegistrar looks every {format_duration(self._look)}>"


def node_of(instance: Instance) -> str:
    """The node that the instance is on, named so that no agent is: Consul's names take letters, digits and dashes."""
    return "mizzen-" + _ELSE.sub("-", instance.id).strip("-")


class _CatalogEntry(Entry, rename="pascal"):
    id: str = msgspec.field(name="ID", default="")
    modify_index: int = 0


class _Node(msgspec.Struct, rename="pascal"):
    services: list[_CatalogEntry] | None = None


class _Check(msgspec.Struct, rename="pascal"):
    check_id: str = msgspec.field(name="CheckID", default="")
    service_id: str = msgspec.field(name="ServiceID", default="")
    status: str = ""
    output: str = ""
    notes: str = ""
