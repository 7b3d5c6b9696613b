"""Consul, written: register, beat, withdraw, https://developer.hashicorp.com/consul/api-docs/agent/service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from mizzen.rules.discovery import Instance
from mizzen.words.clock import Clock, format_duration, monotonic
from mizzen.words.errors import PeerError
from mizzen.words.handler import Handler

from .agent import PEER, Agent, decoded, refused, segment, text_of
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

TTL = 15.0
"""Seconds without a beat until Consul takes the instance for dead: three beats, so that one or two may be lost."""
HTTP_FAILURES = 2
"""Probes in a row that must fail: one lost packet takes nobody out; the heartbeat carries real verdicts at once."""
DEREGISTER_AFTER = 600.0
"""Seconds critical until Consul forgets the instance: much longer than any outage that one expects to recover from."""
VERIFY = 60.0
"""Seconds between looks at whether the entry is still what we registered: a beat alone does not see that its address
was edited, that the agent's own probe was removed, or that another process took the id."""

_NO_TTL = "does not have associated TTL"  # how agents before 1.11 say that they do not know a check, with a 500
_MAINTENANCE = "_service_maintenance:"  # how Consul names the check that maintenance mode is


class ConsulRegistrar:
    """Keeps one agent told about instances. Raises ``CallError`` when the agent cannot be reached or refuses.

    Two checks are registered, both with the current verdict: a heartbeat that carries the verdict of ``/health``, and
    the agent's own probe of ``/health`` (off with ``http_check=False`` where the agent cannot reach the address;
    ``health_port`` where ``/health`` is on the admin port). Consul takes the worse of the two.
    """

    def __init__(
        self,
        call: Handler,
        *,
        token: Callable[[], str | None],
        http_check: bool = True,
        health_path: str = "/health",
        health_port: int | None = None,
        ttl: float = TTL,
        http_interval: float = HTTP_INTERVAL,
        deregister_after: float = DEREGISTER_AFTER,
        verify: float = VERIFY,
        clock: Clock = monotonic,
    ) -> None:
        self._agent = Agent(call, token=token, clock=clock)
        self._token = token
        self._clock = clock
        self._http_check = http_check
        self._health_path = health_path
        self._health_port = health_port
        self._ttl = ttl
        self._http_interval = http_interval
        self._deregister_after = deregister_after
        self._verify = verify
        self._cleared: set[str] = set()
        self._standing: dict[str, Standing] = {}

    async def register(self, instance: Instance, verdict: str, note: str) -> None:
        """Announce ``instance`` with its current verdict; safe to repeat. The first time it takes the place of an
        earlier life; ``DuplicateId`` when another one has taken its place since."""
        # Read before it is written: an agent that hangs gets no registration that it could act on when we are gone.
        entry = await self._read(instance, f"registering {instance.id}")
        known = self._standing.get(instance.id)
        if entry is not None and known is not None and known.boot == instance.boot and entry.boot not in ("", instance.boot):
            raise duplicate(instance, entry, self._clock() - known.looked)
        token = self._token()
        # never with replace-existing-checks: that would cancel an operator's maintenance mode as well
        response = await self._agent.put("/v1/agent/service/register", self._registration(instance, verdict))
        if response.status != 200:
            raise refused(response, f"registering {instance.id}")
        if not self._http_check and instance.id not in self._cleared:
            # an earlier life may have been registered with the probe: it would stay, and go critical
            response = await self._agent.put(f"/v1/agent/check/deregister/{segment(http_check_id(instance))}")
            if response.status not in (200, 404) and not (response.status == 500 and "nknown check" in text_of(response)):
                raise refused(response, f"removing the old HTTP check of {instance.id}")
            self._cleared.add(instance.id)
        # an agent that knew the id keeps the status its check had, whatever the registration says
        if not await self._update(instance, verdict, note):
            raise PeerError(f"consul took the registration of {instance.id} and does not know its check", peer=PEER)
        now = self._clock()
        self._standing[instance.id] = Standing(instance.boot, now, now, token)

    async def beat(self, instance: Instance, verdict: str, note: str) -> bool:
        """Say that the instance lives, with its verdict; False when the agent does not know it: register again.

        Looks at the whole entry every ``verify`` seconds, and at once after a silence in which the agent may have taken
        us for dead; ``DuplicateId`` when another life has the id, ``Outdated`` when what the agent has is not what was
        registered, or was registered with a token that has been replaced.
        """
        known = self._standing.get(instance.id)
        if known is None or known.boot != instance.boot:
            return await self._update(instance, verdict, note)
        if self._token() != known.token:
            # the agent writes with the token that it was registered with: once that expires it would silently go stale
            raise outdated("had us by a token that was replaced")
        if self._doubtful(known):
            if not await self._stands(instance, known):
                return False
            known.looked = self._clock()
        if not await self._update(instance, verdict, note):
            return False
        known.beat = self._clock()
        return True

    async def withdraw(self, instance: Instance) -> None:
        """Remove this life of ``instance``; one that is gone, or lives again under another boot id, is left alone.

        One in maintenance mode stays listed as critical until Consul forgets it: to remove it would end what an operator
        began, and the next life would get calls at once.
        """
        doing = f"withdrawing {instance.id}"
        entry = await self._read(instance, doing)
        if entry is None or entry.boot != instance.boot:
            return
        if await self._in_maintenance(instance):
            await self._update(instance, "critical", "stopped in maintenance mode")
            return
        response = await self._agent.put(f"/v1/agent/service/deregister/{segment(instance.id)}")
        if response.status not in (200, 404):
            raise refused(response, doing)

    async def mismatch(self, instance: Instance) -> str | None:
        """Why Consul keeps the instance out although its heartbeat passes; None when it does not. Ask now and then."""
        checks = await self._checks(f"reading the checks of {instance.id}")
        beat, probe = checks.get(ttl_check_id(instance)), checks.get(http_check_id(instance))
        if beat is None or beat.status != "passing":
            return None
        if held := checks.get(_MAINTENANCE + instance.id):
            return (
                f"consul keeps {instance.id} out: an operator put it in maintenance mode ({held.notes or 'no reason given'});"
                f" consul maint -disable -service={instance.id} ends it"
            )
        if probe is None or probe.status == "passing":
            return None
        return (
            f"consul keeps {instance.id} out: its own probe of {self._health_url(instance)} is {probe.status}"
            f" ({probe.output.strip()[:200] or 'no probe yet'}) while we pass;"
            " make that address reachable from the agent, or set discovery.http_check = false"
        )

    # -- one request each

    async def _update(self, instance: Instance, verdict: str, note: str) -> bool:
        response = await self._agent.put(
            f"/v1/agent/check/update/{segment(ttl_check_id(instance))}", {"Status": verdict, "Output": note}
        )
        if response.status == 200:
            return True
        if response.status == 404 or (response.status == 500 and _NO_TTL in text_of(response)):
            return False
        raise refused(response, f"the heartbeat of {instance.id}")

    async def _read(self, instance: Instance, doing: str) -> Entry | None:
        response = await self._agent.get(f"/v1/agent/service/{segment(instance.id)}")
        if response.status == 404:
            return None
        if response.status != 200:
            raise refused(response, doing)
        return decoded(response, Entry, doing)

    async def _checks(self, doing: str) -> dict[str, _Check]:
        response = await self._agent.get("/v1/agent/checks")
        if response.status != 200:
            raise refused(response, doing)
        return decoded(response, dict[str, _Check], doing)

    async def _in_maintenance(self, instance: Instance) -> bool:
        try:
            return _MAINTENANCE + instance.id in await self._checks(f"withdrawing {instance.id}")
        except PeerError:  # a token that may not read the checks: nobody can tell, and a ghost would be worse
            return False

    # -- what is looked at now and then

    def _doubtful(self, known: Standing) -> bool:
        now = self._clock()
        return now - known.looked >= self._verify or now - known.beat > self._ttl

    async def _stands(self, instance: Instance, known: Standing) -> bool:
        doing = f"verifying the registration of {instance.id}"
        entry = await self._read(instance, doing)
        if entry is None:
            return False
        if entry.boot not in ("", instance.boot):  # one without was not written by us, and is no life of ours
            raise duplicate(instance, entry, self._clock() - known.looked)
        if not entry.says(instance):
            raise outdated("had our entry edited")
        if self._http_check and http_check_id(instance) not in await self._checks(doing):
            raise outdated("had its own check of our health removed")
        return True

    def _registration(self, instance: Instance, verdict: str) -> dict[str, Any]:
        forget = format_duration(self._deregister_after)
        checks: list[dict[str, Any]] = [
            {
                "CheckID": ttl_check_id(instance),
                "Name": "heartbeat",
                "TTL": f"{round(self._ttl * 1000)}ms",
                "Status": verdict,
                "DeregisterCriticalServiceAfter": forget,
            }
        ]
        if self._http_check:
            checks.append(
                {
                    "CheckID": http_check_id(instance),
                    "Name": "health",
                    **probe_of(self._health_url(instance), self._http_interval),
                    "FailuresBeforeCritical": HTTP_FAILURES,
                    "Status": verdict,
                    "DeregisterCriticalServiceAfter": forget,
                }
            )
        return {**fields_of(instance), "Name": instance.service, "Checks": checks}

    def _health_url(self, instance: Instance) -> str:
        return health_url(instance, self._health_path, self._health_port)

    def describe(self) -> dict[str, object]:
        """How instances are registered."""
        return {"backend": "consul", "ttl_s": self._ttl, "http_check": self._http_check, "health": self._health_path}

    def __repr__(self) -> str:
        return f"<ConsulRegistrar TTL {format_duration(self._ttl)}{', HTTP check' if self._http_check else ''}>"


class _Check(msgspec.Struct, rename="pascal"):
    status: str = ""
    output: str = ""
    notes: str = ""
