"""etcd, written: one key per instance under a lease of its own; the test plays the gateway, in virtual time."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from etcd_double import NO_LEASE, EtcdDouble, Refused, b64

from mizzen.edges.resolvers.etcd.gateway import Gateway, Member
from mizzen.edges.resolvers.etcd.registrar import TTL, EtcdRegistrar
from mizzen.rules.discovery import DuplicateId, Instance
from mizzen.tools.testing.virtual import run
from mizzen.words.errors import CallError, ConnectionLost, PeerError
from mizzen.words.message import Request, Response

KEY = "/mizzen/user/user-10.0.0.1-8101"


def me(boot: str = "b1", **more: Any) -> Instance:
    return Instance(
        **{"id": "user-10.0.0.1-8101", "service": "user", "host": "10.0.0.1", "port": 8101, "meta": {"boot": boot}, **more}
    )


def registrar(etcd: EtcdDouble) -> EtcdRegistrar:
    clock = asyncio.get_running_loop().time
    return EtcdRegistrar(Gateway([Member("etcd", etcd)], login=None, random=lambda: 0.0, clock=clock), clock=clock)


def on(test: Callable[[EtcdDouble, EtcdRegistrar], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        etcd = EtcdDouble()
        await test(etcd, registrar(etcd))

    run(main())


def values(etcd: EtcdDouble) -> dict[str, dict[str, Any]]:
    return {b64decode(key).decode(): json.loads(b64decode(found.value)) for key, found in etcd.keys.items()}


def writes(etcd: EtcdDouble) -> int:
    return etcd.revision


def test_an_instance_is_a_key_under_a_lease() -> None:
    """The value says everything but what the key says, in a schema with a number; the lease is of 15 seconds."""

    async def test(etcd: EtcdDouble, registrar: EtcdRegistrar) -> None:
        await registrar.register(me(scheme="https", zone="a", tags=("blue",)), "warning", "slow")
        [(lease, (seconds, _))] = etcd.leases.items()
        assert (seconds, etcd.keys[b64(KEY)].lease) == (TTL, lease)
        said = {"v": 1, "host": "10.0.0.1", "port": 8101, "scheme": "https", "zone": "a", "tags": ["blue"]}
        assert values(etcd) == {KEY: {**said, "meta": {"boot": "b1"}, "status": "warning", "note": "slow"}}

    on(test)


def test_beats_keep_it_and_silence_loses_it() -> None:
    """Beats for a minute, then none for longer than the lease: the next one says that etcd does not have it."""

    async def test(etcd: EtcdDouble, registrar: EtcdRegistrar) -> None:
        await registrar.register(me(), "passing", "ok")
        before = writes(etcd)
        for _ in range(12):
            await asyncio.sleep(5)
            assert await registrar.beat(me(), "passing", "ok")
        assert (writes(etcd), len(etcd.keys)) == (before, 1)
        await asyncio.sleep(TTL + 0.1)
        assert etcd.keys == {}
        assert await registrar.beat(me(), "passing", "ok") is False
        await registrar.register(me(), "passing", "ok")
        assert await registrar.beat(me(), "passing", "ok")
        assert len(etcd.leases) == 1

    on(test)


def test_a_verdict_is_written_once() -> None:
    """A beat writes when the verdict changed, and only then; the note alone is no change."""

    async def test(etcd: EtcdDouble, registrar: EtcdRegistrar) -> None:
        await registrar.register(me(), "passing", "ok")
        before = writes(etcd)
        for verdict, note in (("critical", "down"), ("critical", "still down"), ("passing", "ok"), ("passing", "ok")):
            assert await registrar.beat(me(), verdict, note)
        assert writes(etcd) == before + 2
        assert values(etcd)[KEY]["status"] == "passing"

    on(test)


@pytest.mark.parametrize("how", ["deleted", "another lease", "nonsense"])
def test_a_key_that_is_not_as_it_was_is_registered_again(how: str) -> None:
    """A lease that lives is not enough: the beat looks whether the key is under it."""

    async def test(etcd: EtcdDouble, registrar: EtcdRegistrar) -> None:
        await registrar.register(me(), "passing", "ok")
        match how:
            case "deleted":
                etcd.delete(KEY)
            case "another lease":
                etcd.put(KEY, json.dumps({"v": 1, "host": "10.0.0.1", "port": 8101, "meta": {"boot": "b1"}}))
            case "nonsense":
                etcd.put(KEY, "hello")
        assert await registrar.beat(me(), "passing", "ok") is False
        await registrar.register(me(), "passing", "ok")
        assert await registrar.beat(me(), "passing", "ok")
        assert len(etcd.leases) == 1

    on(test)


def test_the_answer_that_was_lost_is_no_second_registration() -> None:
    """A put that arrived while its answer did not: registering again takes the same lease and the same key."""

    async def test(etcd: EtcdDouble, registrar: EtcdRegistrar) -> None:
        plain = etcd._txn

        def lost(body: dict[str, Any]) -> dict[str, Any]:
            plain(body)
            etcd._txn = plain  # type: ignore[method-assign]
            raise ConnectionLost("reset")

        etcd._txn = lost  # type: ignore[method-assign]
        with pytest.raises(ConnectionLost):
            await registrar.register(me(), "passing", "ok")
        await registrar.register(me(), "passing", "ok")
        assert (len(etcd.leases), len(etcd.keys)) == (1, 1)
        assert await registrar.beat(me(), "passing", "ok")

    on(test)


def test_a_lease_that_ends_while_it_registers_is_an_error_once() -> None:
    """The put is refused, and the next try begins with a new lease."""

    async def test(etcd: EtcdDouble, registrar: EtcdRegistrar) -> None:
        plain = etcd._txn

        def ended(body: dict[str, Any]) -> dict[str, Any]:
            etcd._txn = plain  # type: ignore[method-assign]
            etcd.leases.clear()
            raise Refused(*NO_LEASE)

        etcd._txn = ended  # type: ignore[method-assign]
        with pytest.raises(PeerError, match="requested lease not found"):
            await registrar.register(me(), "passing", "ok")
        await registrar.register(me(), "passing", "ok")
        assert await registrar.beat(me(), "passing", "ok")

    on(test)


def test_a_404_of_something_else_is_no_lost_registration() -> None:
    """Only etcd's own word on the lease makes an instance register again; a proxy's 404 is an outage."""

    async def test(etcd: EtcdDouble, registrar: EtcdRegistrar) -> None:
        await registrar.register(me(), "passing", "ok")
        etcd.answers["/v3/lease/keepalive"] = Response(404, b"404 page not found")
        with pytest.raises(PeerError, match="404"):
            await registrar.beat(me(), "passing", "ok")

    on(test)


# -- lives of one id


def test_a_new_life_takes_the_place_of_the_one_before() -> None:
    """Also while the earlier lease lives; what the earlier one does afterwards leaves it alone."""

    async def test(etcd: EtcdDouble, earlier: EtcdRegistrar) -> None:
        await earlier.register(me("b1"), "passing", "ok")
        now = registrar(etcd)
        await now.register(me("b2"), "passing", "ok")
        assert values(etcd)[KEY]["meta"] == {"boot": "b2"}
        await earlier.withdraw(me("b1"))
        assert values(etcd)[KEY]["meta"] == {"boot": "b2"}
        assert await now.beat(me("b2"), "passing", "ok")

    on(test)


def test_a_life_whose_place_was_taken_says_so_and_waits() -> None:
    """It neither beats nor registers over the later one, and has its place again when that is gone."""

    async def test(etcd: EtcdDouble, first: EtcdRegistrar) -> None:
        second, theirs = registrar(etcd), me("b2", host="10.0.9.9", port=9999)
        await first.register(me("b1"), "passing", "ok")
        await asyncio.sleep(4)
        await second.register(theirs, "passing", "ok")
        with pytest.raises(DuplicateId) as raised:
            await first.beat(me("b1"), "passing", "ok")
        assert str(raised.value) == (
            "user-10.0.0.1-8101 was ours in etcd 4s ago and is now boot b2 at 10.0.9.9:9999, while we are boot b1 at"
            " 10.0.0.1:8101: two processes share one id; give each an instance_id of its own, or none,"
            " and end the one that is not wanted"
        )
        with pytest.raises(DuplicateId):
            await first.register(me("b1"), "passing", "ok")
        with pytest.raises(DuplicateId):  # a new verdict neither
            await first.beat(me("b1"), "critical", "down")
        assert values(etcd)[KEY]["meta"] == {"boot": "b2"}
        await second.withdraw(theirs)
        assert await first.beat(me("b1"), "passing", "ok") is False
        await first.register(me("b1"), "passing", "ok")
        assert await first.beat(me("b1"), "passing", "ok")

    on(test)


def test_a_life_that_slept_through_its_lease_does_not_fight() -> None:
    """Its lease ended, somebody else took the id: registering again is refused, however alive it is."""

    async def test(etcd: EtcdDouble, sleeper: EtcdRegistrar) -> None:
        await sleeper.register(me("b1"), "passing", "ok")
        await asyncio.sleep(TTL + 1)
        other = registrar(etcd)
        await other.register(me("b2"), "passing", "ok")
        assert await sleeper.beat(me("b1"), "passing", "ok") is False
        with pytest.raises(DuplicateId):
            await sleeper.register(me("b1"), "passing", "ok")
        assert values(etcd)[KEY]["meta"] == {"boot": "b2"}

    on(test)


def test_two_lives_that_register_at_once_both_end() -> None:
    """What changes between look and write is looked at again; a key that never rests is an error."""

    async def test(etcd: EtcdDouble, registrar: EtcdRegistrar) -> None:
        etcd.put(KEY, "hello")
        plain, moves = etcd._txn, [True, False]

        def busy(body: dict[str, Any]) -> dict[str, Any]:
            if moves.pop(0) if moves else True:
                etcd.put(KEY, "hello")
            return plain(body)

        etcd._txn = busy  # type: ignore[method-assign]
        await registrar.register(me(), "passing", "ok")
        assert values(etcd)[KEY]["v"] == 1
        etcd.put(KEY, "hello")
        with pytest.raises(PeerError, match="others write the same key"):
            await registrar.register(me(), "passing", "ok")

    on(test)


# -- the end


def test_a_withdrawal_removes_its_own_and_leaves_no_lease() -> None:
    """Key and lease are gone at once; doing it again is no error."""

    async def test(etcd: EtcdDouble, registrar: EtcdRegistrar) -> None:
        other = me(id="user-10.0.0.2-8101", host="10.0.0.2")
        await registrar.register(me(), "passing", "ok")
        await registrar.register(other, "passing", "ok")
        await registrar.withdraw(me())
        await registrar.withdraw(me())
        assert ([*values(etcd)], len(etcd.leases)) == ([f"/mizzen/user/{other.id}"], 1)
        assert await registrar.mismatch(other) is None

    on(test)


def test_a_lease_that_is_gone_does_not_stop_a_withdrawal() -> None:
    """The key goes by its boot id, should it be there without the lease."""

    async def test(etcd: EtcdDouble, registrar: EtcdRegistrar) -> None:
        await registrar.register(me(), "passing", "ok")
        value = json.dumps(values(etcd)[KEY])
        etcd.end_lease(next(iter(etcd.leases)))
        etcd.put(KEY, value)
        await registrar.withdraw(me())
        assert etcd.keys == {}

    on(test)


def test_nothing_on_its_way_survives_a_withdrawal() -> None:
    """A put and a beat that were under way when the instance was withdrawn, and arrive later, bring nothing back."""

    async def test(etcd: EtcdDouble, registrar: EtcdRegistrar) -> None:
        sent: list[Request] = []

        class Held(EtcdDouble):
            async def __call__(self, request: Request) -> Response:
                if request.path == "/v3/kv/txn":
                    sent.append(request)
                return await etcd(request)

        clock = asyncio.get_running_loop().time
        registrar = EtcdRegistrar(Gateway([Member("etcd", Held())], login=None, random=lambda: 0.0, clock=clock), clock=clock)
        await registrar.register(me(), "passing", "ok")
        assert await registrar.beat(me(), "critical", "down")
        await registrar.withdraw(me())
        assert len(sent) >= 2
        for request in sent:
            await etcd(request)
        assert etcd.keys == {}
        assert await registrar.beat(me(), "passing", "ok") is False
        assert etcd.keys == {}

    on(test)


def test_an_outage_is_an_error_of_every_call() -> None:
    """Register, beat and withdraw say that etcd cannot be reached; what it had it still has."""

    async def test(etcd: EtcdDouble, registrar: EtcdRegistrar) -> None:
        await registrar.register(me(), "passing", "ok")
        etcd.leader = False
        calls = [registrar.register(me(), "passing", "ok"), registrar.beat(me(), "passing", "ok"), registrar.withdraw(me())]
        for call in calls:
            with pytest.raises(CallError, match="no leader"):
                await call
        etcd.leader = True
        assert len(etcd.keys) == 1
        await registrar.withdraw(me())  # it knows no lease any more, and goes by the boot id
        assert etcd.keys == {}
        assert repr(registrar) == "<EtcdRegistrar lease 15s, 0 announced>"
        assert registrar.describe()["ttl_s"] == TTL

    on(test)
