"""The Consul registrar's second looks: lost, edited and taken registrations, late withdrawals, maintenance mode."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from mizzen.edges.registry import Registry
from mizzen.edges.resolvers import ConsulRegistrar
from mizzen.edges.resolvers.consul.registrar import TTL, VERIFY
from mizzen.rules.discovery import DuplicateId, Instance, Outdated
from mizzen.tools.testing.virtual import run
from mizzen.words.errors import CallTimeout, PeerError
from mizzen.words.message import Request, Response

ID = "user-10.0.0.7-8101"
OLD = Instance(ID, "user", "10.0.0.7", 8101, meta={"boot": "b1"}, tags=("blue",), weight=3)
NEW = msgspec.structs.replace(OLD, host="10.0.0.9", meta={"boot": "b2"})
ENTRY = f"/v1/agent/service/{ID}"


def now() -> float:
    return asyncio.get_running_loop().time()


class Agent:
    """The embedded registry behind a wire on which the test may hold, answer or watch each request."""

    def __init__(self) -> None:
        async def probe(request: Request) -> Response:
            return Response(200)

        self.registry = Registry(clock=now, wall=lambda: 1_700_000_000.0, sleep=asyncio.sleep, probe=probe)
        self.asked: list[str] = []
        self.before: Callable[[str], Awaitable[Response | None]] | None = None

    async def call(self, request: Request) -> Response:
        what = f"{request.method} {request.path}"
        self.asked.append(what)
        if self.before is not None and (answer := await self.before(what)) is not None:
            return answer
        return await self.registry.handler(request)

    async def said(self, method: str, path: str, *, query: str = "", body: Any = None) -> Any:
        """What it answers to somebody else."""
        text = b"" if body is None else json.dumps(body).encode()
        response = await self.registry.handler(Request(method, path, query=query, body=text))
        assert response.status in (200, 404), response.body
        return response.json() if response.status == 200 and response.body else None

    async def boot(self) -> str | None:
        """Of the life that is registered."""
        entry = await self.said("GET", ENTRY)
        return None if entry is None else entry["Meta"].get("boot", "")

    def registrar(self, **options: Any) -> ConsulRegistrar:
        return ConsulRegistrar(self.call, token=lambda: None, clock=now, **options)


def scene(play: Callable[[Agent], Awaitable[None]]) -> None:
    async def main() -> None:
        await play(Agent())

    run(main())


async def beats(registrar: ConsulRegistrar, instance: Instance, seconds: float) -> list[bool]:
    """Beat every five seconds for so long."""
    answers = []
    for _ in range(round(seconds / 5)):
        await asyncio.sleep(5)
        answers.append(await registrar.beat(instance, "passing", "ok"))
    return answers


def test_a_beat_looks_at_the_whole_entry_once_a_minute() -> None:
    """Most beats are one request; one in twelve reads the entry and its checks before it."""

    async def play(agent: Agent) -> None:
        registrar = agent.registrar()
        await registrar.register(OLD, "passing", "ok")
        agent.asked.clear()
        assert all(await beats(registrar, OLD, 3 * VERIFY))
        assert agent.asked.count(f"PUT /v1/agent/check/update/service%3A{ID}%3Attl") == 36
        assert agent.asked.count(f"GET {ENTRY}") == agent.asked.count("GET /v1/agent/checks") == 3

    scene(play)


@pytest.mark.parametrize(
    "edit",
    [{"Address": "10.9.9.9"}, {"Port": 1}, {"Tags": ["green"]}, {"Meta": {"boot": "b1", "scheme": "https"}}, {"Meta": {}},
     {"Weights": {"Passing": 1}}],
    ids=["address", "port", "tags", "scheme", "no metadata", "weight"],
)  # fmt: skip
def test_an_entry_that_was_edited_is_registered_anew(edit: dict[str, Any]) -> None:
    """What an operator or a tool changed behind our back is told by a beat within a minute, and mended."""

    async def play(agent: Agent) -> None:
        registrar = agent.registrar(http_check=False)
        await registrar.register(OLD, "passing", "ok")
        entry = await agent.said("GET", ENTRY)
        body = {key: entry[key] for key in ("ID", "Address", "Port", "Tags", "Meta", "Weights")} | {"Name": "user"} | edit
        await agent.said("PUT", "/v1/agent/service/register", body=body)
        assert all(await beats(registrar, OLD, VERIFY - 5))
        with pytest.raises(Outdated, match="had our entry edited"):
            await beats(registrar, OLD, 5)
        await registrar.register(OLD, "passing", "ok")
        assert all(await beats(registrar, OLD, 2 * VERIFY))
        assert await agent.said("GET", ENTRY) == entry

    scene(play)


def test_a_probe_that_was_removed_is_registered_anew() -> None:
    """Without it a hung instance would pass by its heartbeat alone; a beat does not see that, the look does."""

    async def play(agent: Agent) -> None:
        registrar = agent.registrar()
        await registrar.register(OLD, "passing", "ok")
        await agent.said("PUT", f"/v1/agent/check/deregister/service:{ID}:http")
        assert await beats(registrar, OLD, VERIFY - 5) == [True] * 11
        with pytest.raises(Outdated, match="had its own check of our health removed"):
            await beats(registrar, OLD, 5)

    scene(play)


def test_another_life_under_the_id_is_an_error_that_names_both() -> None:
    """The one that was registered first finds out within a minute; it neither beats for the other nor fights for the place."""

    async def play(agent: Agent) -> None:
        first, second = agent.registrar(http_check=False), agent.registrar(http_check=False)
        await first.register(OLD, "passing", "ok")
        await second.register(NEW, "passing", "ok")
        with pytest.raises(DuplicateId) as raised:
            await beats(first, OLD, VERIFY)
        assert str(raised.value).startswith(
            f"{ID} was ours in consul 1m ago and is now boot b2 at 10.0.0.9:8101, while we are boot b1 at 10.0.0.7:8101:"
            " two processes share one id; give each an instance_id of its own"
        )
        agent.asked.clear()
        for say in (first.beat, first.register):
            with pytest.raises(DuplicateId):
                await say(OLD, "passing", "ok")
        assert agent.asked == [f"GET {ENTRY}"] * 2
        assert await agent.boot() == "b2"

    scene(play)


def test_the_place_is_taken_again_once_the_other_life_is_gone() -> None:
    """Whoever stood aside goes on looking, and registers when nobody has the id any more."""

    async def play(agent: Agent) -> None:
        first, second = agent.registrar(), agent.registrar()
        await first.register(OLD, "passing", "ok")
        await second.register(NEW, "passing", "ok")
        with pytest.raises(DuplicateId):
            await beats(first, OLD, VERIFY)
        await second.withdraw(NEW)
        assert await first.beat(OLD, "passing", "ok") is False
        await first.register(OLD, "passing", "ok")
        assert await agent.boot() == "b1"

    scene(play)


def test_after_a_silence_longer_than_the_ttl_the_entry_is_looked_at_at_once() -> None:
    """A stalled loop, or a long outage, may have cost the registration, or the id, whatever the next beat says."""

    async def play(agent: Agent) -> None:
        registrar = agent.registrar(http_check=False)
        await registrar.register(OLD, "passing", "ok")
        await asyncio.sleep(TTL + 0.1)
        agent.asked.clear()
        assert await registrar.beat(OLD, "passing", "ok")
        assert agent.asked[0] == f"GET {ENTRY}"
        agent.asked.clear()
        assert await registrar.beat(OLD, "passing", "ok")
        assert len(agent.asked) == 1

    scene(play)


@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_a_look_that_fails_is_an_error_and_no_reason_to_register_again(status: int) -> None:
    """Nobody knows whether the entry is there: the next beat looks again."""

    async def play(agent: Agent) -> None:
        async def refuse(what: str) -> Response | None:
            return Response(status, b"rpc error") if what.startswith("GET") else None

        registrar = agent.registrar()
        await registrar.register(OLD, "passing", "ok")
        await beats(registrar, OLD, VERIFY - 5)
        agent.before = refuse
        for _ in range(2):
            await asyncio.sleep(5)
            with pytest.raises(PeerError, match=f"consul answered {status} to verifying the registration of {ID}"):
                await registrar.beat(OLD, "passing", "ok")
        agent.before = None
        agent.asked.clear()
        assert await registrar.beat(OLD, "passing", "ok")
        assert agent.asked[0] == f"GET {ENTRY}"

    scene(play)


def test_an_agent_that_hangs_is_sent_no_registration() -> None:
    """It is asked something harmless first: a registration in its buffers would land when we are long gone."""

    async def play(agent: Agent) -> None:
        async def hang(what: str) -> Response | None:
            await asyncio.sleep(2)
            raise CallTimeout("no answer")

        agent.before = hang
        with pytest.raises(CallTimeout):
            await agent.registrar().register(OLD, "passing", "ok")
        assert agent.asked == [f"GET {ENTRY}"]

    scene(play)


def test_a_late_withdrawal_leaves_the_life_alone_that_has_the_place() -> None:
    """Held up before it read, it reads another boot id."""

    async def play(agent: Agent) -> None:
        await agent.registrar().register(OLD, "passing", "ok")
        reading = asyncio.Event()

        async def hold(what: str) -> Response | None:
            if what == f"GET {ENTRY}" and not reading.is_set():
                reading.set()
                await asyncio.sleep(1)
            return None

        agent.before = hold
        leaving = asyncio.create_task(agent.registrar().withdraw(OLD))
        await reading.wait()
        await agent.registrar().register(NEW, "passing", "ok")
        await leaving
        assert await agent.boot() == "b2"

    scene(play)


def test_a_withdrawal_that_removes_another_life_after_all_is_mended_by_that_lifes_next_beat() -> None:
    """Consul's agents have no compare-and-set: between read and removal a life may take the place, and register again."""

    async def play(agent: Agent) -> None:
        await agent.registrar().register(OLD, "passing", "ok")
        read = asyncio.Event()

        async def hold(what: str) -> Response | None:
            if what.startswith("PUT /v1/agent/service/deregister"):
                read.set()
                await asyncio.sleep(1)
            return None

        agent.before = hold
        leaving = asyncio.create_task(agent.registrar().withdraw(OLD))
        await read.wait()
        registrar = agent.registrar()
        await registrar.register(NEW, "passing", "ok")
        await leaving
        assert await agent.boot() is None
        assert await registrar.beat(NEW, "passing", "ok") is False
        await registrar.register(NEW, "passing", "ok")
        assert await agent.boot() == "b2"

    scene(play)


def test_an_instance_in_maintenance_stays_so_over_a_restart() -> None:
    """To deregister it would end the maintenance mode with it: it stays listed as critical, and its next life is out too."""

    async def play(agent: Agent) -> None:
        registrar = agent.registrar(http_check=False)
        await registrar.register(OLD, "passing", "ok")
        await agent.said("PUT", f"/v1/agent/service/maintenance/{ID}", query="enable=true&reason=upgrade")
        await registrar.withdraw(OLD)
        checks = await agent.said("GET", "/v1/agent/checks")
        assert checks[f"service:{ID}:ttl"]["Status"] == "critical"
        await agent.registrar(http_check=False).register(NEW, "passing", "ok")
        assert await agent.said("GET", "/v1/health/service/user", query="passing") == []
        await agent.said("PUT", f"/v1/agent/service/maintenance/{ID}", query="enable=false")
        assert len(await agent.said("GET", "/v1/health/service/user", query="passing")) == 1

    scene(play)


def test_a_token_that_may_not_read_checks_may_still_withdraw() -> None:
    """A ghost would be worse than a maintenance mode that nobody could see."""

    async def play(agent: Agent) -> None:
        registrar = agent.registrar()
        await registrar.register(OLD, "passing", "ok")

        async def refuse(what: str) -> Response | None:
            return Response(403, b"Permission denied") if what == "GET /v1/agent/checks" else None

        agent.before = refuse
        await registrar.withdraw(OLD)
        assert await agent.boot() is None

    scene(play)


def test_a_token_that_was_replaced_is_a_reason_to_register_again() -> None:
    """The agent goes on writing to the catalog with the old one, and fails in silence once that has expired."""

    async def play(agent: Agent) -> None:
        tokens = ["first"]
        registrar = ConsulRegistrar(agent.call, token=lambda: tokens[-1], clock=now)
        await registrar.register(OLD, "passing", "ok")
        assert await registrar.beat(OLD, "passing", "ok")
        tokens.append("second")
        with pytest.raises(Outdated, match="had us by a token that was replaced"):
            await registrar.beat(OLD, "passing", "ok")
        await registrar.register(OLD, "passing", "ok")
        assert await registrar.beat(OLD, "passing", "ok")

    scene(play)
