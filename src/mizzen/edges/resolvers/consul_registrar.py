"""Consul, written: register, beat, withdraw, https://developer.hashicorp.com/consul/api-docs/agent/service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from mizzen.rules.discovery import Instance
from mizzen.words.clock import Clock, format_duration, monotonic
from mizzen.words.errors import PeerError
from mizzen.words.handler import Handler

from .consul_agent import PEER, Agent, decoded, refused, segment, text_of

TTL = 15.0
"""Seconds without a beat until Consul takes the instance for dead: three beats, so that one or two may be lost."""
HTTP_INTERVAL = 10.0
"""Seconds between the agent's own looks at ``/health``."""
HTTP_TIMEOUT = 2.0
"""Seconds; Consul's default of 10 would let a hung instance pass for most of an interval."""
HTTP_FAILURES = 2
"""Probes in a row that must fail: one lost packet takes nobody out; the heartbeat carries real verdicts at once."""
DEREGISTER_AFTER = 600.0
"""Seconds critical until Consul forgets the instance: much longer than any outage that one expects to recover from."""

_NO_TTL = "does not have associated TTL"  # how agents before 1.11 say that they do not know a check, with a 500


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
        clock: Clock = monotonic,
    ) -> None:
        self._agent = Agent(call, token=token, clock=clock)
        self._http_check = http_check
        self._health_path = health_path
        self._health_port = health_port
        self._ttl = ttl
        self._http_interval = http_interval
        self._deregister_after = deregister_after
        self._cleared: set[str] = set()

    async def register(self, instance: Instance, verdict: str, note: str) -> None:
        """Announce ``instance`` with its current verdict; safe to repeat, also over another life's entry."""
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
        if not await self.beat(instance, verdict, note):
            raise PeerError(f"consul took the registration of {instance.id} and does not know its check", peer=PEER)

    async def beat(self, instance: Instance, verdict: str, note: str) -> bool:
        """Say that the instance lives, with its verdict; False when the agent does not know it: register again."""
        response = await self._agent.put(
            f"/v1/agent/check/update/{segment(ttl_check_id(instance))}", {"Status": verdict, "Output": note}
        )
        if response.status == 200:
            return True
        if response.status == 404 or (response.status == 500 and _NO_TTL in text_of(response)):
            return False
        raise refused(response, f"the heartbeat of {instance.id}")

    async def withdraw(self, instance: Instance) -> None:
        """Remove this life of ``instance``; one that is gone, or lives again under another boot id, is left alone."""
        response = await self._agent.get(f"/v1/agent/service/{segment(instance.id)}")
        if response.status == 404:
            return
        if response.status != 200:
            raise refused(response, f"withdrawing {instance.id}")
        if (decoded(response, _Registered, f"withdrawing {instance.id}").meta or {}).get("boot", "") != instance.boot:
            return
        response = await self._agent.put(f"/v1/agent/service/deregister/{segment(instance.id)}")
        if response.status not in (200, 404):
            raise refused(response, f"withdrawing {instance.id}")

    async def mismatch(self, instance: Instance) -> str | None:
        """Why the agent's own probe disagrees with a passing heartbeat; None when it does not. Ask now and then."""
        response = await self._agent.get("/v1/agent/checks")
        if response.status != 200:
            raise refused(response, f"reading the checks of {instance.id}")
        checks = decoded(response, dict[str, _Check], f"reading the checks of {instance.id}")
        beat, probe = checks.get(ttl_check_id(instance)), checks.get(http_check_id(instance))
        if beat is None or probe is None or beat.status != "passing" or probe.status == "passing":
            return None
        return (
            f"consul keeps {instance.id} out: its own probe of {self._health_url(instance)} is {probe.status}"
            f" ({probe.output.strip()[:200] or 'no probe yet'}) while we pass;"
            " make that address reachable from the agent, or set discovery.http_check = false"
        )

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
                    "HTTP": self._health_url(instance),
                    # the agent asks by address, which is on few certificates, and believes no more than a status
                    **({"TLSSkipVerify": True} if self._health_url(instance).startswith("https:") else {}),
                    "Method": "GET",
                    "Interval": f"{round(self._http_interval * 1000)}ms",
                    "Timeout": f"{round(HTTP_TIMEOUT * 1000)}ms",
                    "FailuresBeforeCritical": HTTP_FAILURES,
                    "Status": verdict,
                    "DeregisterCriticalServiceAfter": forget,
                }
            )
        said = {"scheme": instance.scheme, "version": instance.version, "zone": instance.zone}
        return {
            "ID": instance.id,
            "Name": instance.service,
            "Address": instance.host,
            "Port": instance.port,
            "Meta": {**instance.meta, **{key: value for key, value in said.items() if value}},
            "Weights": {"Passing": instance.weight, "Warning": 1},
            "EnableTagOverride": False,
            "Checks": checks,
        }

    def _health_url(self, instance: Instance) -> str:
        at = instance
        if self._health_port is not None:
            at = msgspec.structs.replace(instance, port=self._health_port, scheme="http")
        return at.origin + self._health_path

    def describe(self) -> dict[str, object]:
        """How instances are registered."""
        return {"backend": "consul", "ttl_s": self._ttl, "http_check": self._http_check, "health": self._health_path}

    def __repr__(self) -> str:
        return f"<ConsulRegistrar TTL {format_duration(self._ttl)}{', HTTP check' if self._http_check else ''}>"


class _Registered(msgspec.Struct, rename="pascal"):
    meta: dict[str, str] | None = None


class _Check(msgspec.Struct, rename="pascal"):
    status: str = ""
    output: str = ""


def ttl_check_id(instance: Instance) -> str:
    """The id of the heartbeat's check."""
    return f"service:{instance.id}:ttl"


def http_check_id(instance: Instance) -> str:
    """The id of the check by which the agent itself looks at ``/health``."""
    return f"service:{instance.id}:http"
