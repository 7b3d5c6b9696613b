"""etcd, read: list, watch, and everything that can come between them; the test plays the gateway, in virtual time."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from etcd_double import EtcdDouble, b64

from mizzen.edges.resolvers.etcd.gateway import TIMEOUT, Gateway, Member
from mizzen.edges.resolvers.etcd.lines import Lines
from mizzen.edges.resolvers.etcd.login import Login
from mizzen.edges.resolvers.etcd.resolver import BACKOFF_CAP, RELIST, SILENCE, SPREAD, UNSTABLE, EtcdResolver
from mizzen.rules.discovery import Instance
from mizzen.tools.testing.virtual import run
from mizzen.words.errors import ConnectFailed, ConnectionLost, PeerError
from mizzen.words.message import Response


class Feed:
    """Writes down what it is fed, and when."""

    def __init__(self) -> None:
        self.snapshots: list[list[Instance]] = []
        self.regressed: list[bool] = []
        self.errors: list[Exception] = []
        self.said: list[str] = []
        self.at: list[float] = []
        self.again: list[bool] = []
        """What to answer to the next snapshots."""

    def snapshot(self, instances: Sequence[Instance], *, regressed: bool = False) -> bool:
        self.snapshots.append(list(instances))
        self.regressed.append(regressed)
        self._say("snapshot")
        return self.again.pop(0) if self.again else False

    def error(self, error: Exception) -> None:
        self.errors.append(error)
        self._say("error")

    def _say(self, what: str) -> None:
        self.said.append(what)
        self.at.append(asyncio.get_running_loop().time())

    @property
    def ids(self) -> list[list[str]]:
        return [[instance.id for instance in snapshot] for snapshot in self.snapshots]


class Watch:
    """A resolver at work on ``user``, with all that is around it."""

    def __init__(self, *doubles: EtcdDouble, login: Login | None = None, chance: float = 0.5) -> None:
        self.etcd = doubles[0] if doubles else EtcdDouble()
        self.members = doubles or (self.etcd,)
        self.feed = Feed()
        self.chance = chance
        self.login = login

    def run(self, test: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            clock = asyncio.get_running_loop().time
            members = [Member(f"etcd{number}", double) for number, double in enumerate(self.members)]
            self.gateway = Gateway(members, login=self.login, random=lambda: 0.0, clock=clock)
            self.resolver = EtcdResolver(self.gateway, sleep=asyncio.sleep, random=lambda: self.chance, clock=clock)
            task = asyncio.create_task(self.resolver.watch("user", self.feed))
            try:
                await settle()
                await test()
                assert not task.done(), "a watch goes on until it is cancelled"
            finally:
                task.cancel()
                await asyncio.wait({task})
            assert [watch for double in self.members for watch in double.watches] == []

        run(main())

    def asked(self, path: str) -> list[dict[str, Any]]:
        return [body for at, body in self.etcd.requests if at == path]

    @property
    def lists(self) -> list[dict[str, Any]]:
        """The complete reads."""
        return [body for body in self.asked("/v3/kv/range") if "keys_only" not in body]


async def settle() -> None:
    await asyncio.sleep(0.001)


def value(number: int, **more: Any) -> str:
    return json.dumps({"v": 1, "host": f"10.0.0.{number}", "port": 8101, "meta": {"boot": f"b{number}"}, **more})


def put(etcd: EtcdDouble, *numbers: int, **more: Any) -> None:
    for number in numbers:
        etcd.put(f"/mizzen/user/u{number}", value(number, **more))


def drop(etcd: EtcdDouble, *numbers: int) -> None:
    for number in numbers:
        etcd.delete(f"/mizzen/user/u{number}")


# -- list and watch


def test_a_watch_goes_on_where_the_list_ended() -> None:
    """It begins at the revision after the list's, asks for progress and fragments, and demands that there be a leader."""
    at = Watch()
    put(at.etcd, 1)

    async def test() -> None:
        assert at.feed.ids == [["u1"]]
        [listed], [create] = at.asked("/v3/kv/range"), at.asked("/v3/watch")
        assert {b64decode(listed["key"]), b64decode(listed["range_end"])} == {b"/mizzen/user/", b"/mizzen/user0"}
        assert create["create_request"] == {**listed, "start_revision": "3", "progress_notify": True, "fragment": True}
        assert {request.headers.get("grpc-metadata-hasleader") for request in at.etcd.sent} == {"true"}
        put(at.etcd, 2)
        await settle()
        drop(at.etcd, 1)
        await settle()
        assert at.feed.ids == [["u1"], ["u1", "u2"], ["u2"]]
        assert (len(at.lists), at.feed.errors) == (1, [])

    at.run(test)


def test_a_change_costs_what_it_says() -> None:
    """What did not change is not read again, neither by a watch nor by the next list: the very objects stay."""
    at = Watch()
    put(at.etcd, 1, 2)

    async def test() -> None:
        put(at.etcd, 3)
        await settle()
        at.etcd.lose_watches()
        await asyncio.sleep(1)
        put(at.etcd, 2, status="passing", zone="b")
        await settle()
        first, second, third, fourth = at.feed.snapshots
        assert all(mine is theirs for mine, theirs in zip(first, second[:2], strict=True))
        assert all(mine is theirs for mine, theirs in zip(second, third, strict=True))
        assert (fourth[0] is third[0], fourth[1] is third[1], fourth[1].zone) == (True, False, "b")

    at.run(test)


def test_what_comes_together_is_fed_once() -> None:
    """An instance that goes and comes again within one piece of the stream was never away; empty lines say nothing."""
    at = Watch()
    put(at.etcd, 1, 2)

    async def test() -> None:
        [watch] = at.etcd.forget_watches()
        gone = {"type": "DELETE", "kv": {"key": _key(1), "mod_revision": "4"}}
        come = {"kv": {"key": _key(1), "mod_revision": "5", "value": _value(1)}}
        whole = b"\n" + at.etcd.line(events=[gone]) + at.etcd.line(events=[come])
        watch.lines.put_nowait(whole[:70])
        watch.lines.put_nowait(whole[70:])
        await settle()
        assert at.feed.ids == [["u1", "u2"], ["u2", "u1"]]

    at.run(test)


def test_a_fragment_waits_for_its_rest() -> None:
    """A change that is sent in parts is taken when the last part is here."""
    at = Watch()

    async def test() -> None:
        [watch] = at.etcd.forget_watches()
        for number, fragment in ((1, {"fragment": True}), (2, {})):
            kv = {"key": _key(number), "mod_revision": "2", "value": _value(number)}
            watch.lines.put_nowait(at.etcd.line(events=[{"kv": kv}], **fragment))
            await settle()
        assert at.feed.ids == [[], ["u1", "u2"]]

    at.run(test)


@pytest.mark.parametrize("said", [{"status": "critical"}, {"v": 2}, {"port": 0}, {"scheme": "ftp"}, {"host": "/run/x.sock"}])
def test_who_must_not_be_called_is_not_in_the_set(said: dict[str, Any]) -> None:
    """An instance with a bad verdict, or a value that nobody can believe, is absent; nothing else suffers."""
    at = Watch()
    put(at.etcd, 1)

    async def test() -> None:
        put(at.etcd, 2, **said)
        await settle()
        put(at.etcd, 2)
        await settle()
        put(at.etcd, 2, **said)
        await settle()
        assert at.feed.ids == [["u1"], ["u1"], ["u1", "u2"], ["u1"]]

    at.run(test)


def test_nonsense_is_told_once_until_it_is_mended(caplog: pytest.LogCaptureFixture) -> None:
    """A value that stays wrong is one line in the log, however often it is seen; wrong again after it was right is another."""
    at = Watch()

    async def test() -> None:
        for _ in range(3):
            at.etcd.put("/mizzen/user/odd", "hello")
            await settle()
        at.etcd.lose_watches()
        await asyncio.sleep(1)
        at.etcd.put("/mizzen/user/odd", value(1))
        await settle()
        at.etcd.put("/mizzen/user/odd", "hello")
        await settle()

    at.run(test)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert told[0].startswith("etcd's key /mizzen/user/odd is left out: ")


# -- what a registry that lost something says


def test_compaction_is_read_anew() -> None:
    """A watch whose past is compacted away is no outage: the set is read again, with what came and went in between."""
    at = Watch()
    put(at.etcd, 1)

    async def test() -> None:
        at.etcd.lose_watches()
        at.etcd.cut = ConnectFailed("refused")
        await asyncio.sleep(1)
        put(at.etcd, 2)
        at.etcd.cut = None
        await asyncio.sleep(20)
        drop(at.etcd, 1)
        at.etcd.compact()
        [watch] = at.etcd.forget_watches()
        watch.lines.put_nowait(at.etcd.line(canceled=True, compact_revision=str(at.etcd.compacted)))
        await asyncio.sleep(1)
        assert (at.feed.ids[-1], at.feed.regressed[-1]) == (["u2"], False)

    at.run(test)


def test_a_watch_that_begins_in_a_compacted_past_reads_anew() -> None:
    """The answer to the watch itself says that its beginning is forgotten."""
    at = Watch()
    put(at.etcd, 1)

    async def test() -> None:
        def compacted() -> Response:
            put(at.etcd, 2)
            at.etcd.compact()
            del at.etcd.answers["/v3/watch"]
            lines = at.etcd.line(created=True) + at.etcd.line(canceled=True, compact_revision=str(at.etcd.compacted))
            return Response(200, lines)

        at.etcd.answers["/v3/watch"] = compacted
        at.etcd.lose_watches()
        await asyncio.sleep(2)
        assert (at.feed.ids[-1], at.feed.errors) == (["u1", "u2"], [])

    at.run(test)


@pytest.mark.parametrize("other", ["revision", "cluster"])
def test_a_registry_that_went_back_is_marked(other: str) -> None:
    """A lower revision, or another cluster at whatever revision, is fed as a regress; once, since it is the measure then."""
    at = Watch()
    put(at.etcd, 1, 2, 3)

    async def test() -> None:
        if other == "revision":
            at.etcd.lose_state()
        else:
            at.etcd.cluster_id, at.etcd.revision = "7", 1000
            at.etcd.keys = {}
        at.etcd.lose_watches()
        await asyncio.sleep(1)
        assert (at.feed.ids[-1], at.feed.regressed[-1]) == ([], True)
        at.etcd.lose_watches()
        await asyncio.sleep(1)
        assert (at.feed.ids[-1], at.feed.regressed[-1]) == ([], False)

    at.run(test)


def test_a_watch_that_another_cluster_answers_is_read_anew() -> None:
    """Between list and watch the cluster was replaced: its watch would be silent for ever."""
    at = Watch()
    put(at.etcd, 1)

    async def test() -> None:
        at.etcd.lose_watches()
        plain = at.etcd._watch

        def other(create: dict[str, Any], token: str) -> Any:
            at.etcd._watch = plain  # type: ignore[method-assign]
            at.etcd.cluster_id, at.etcd.keys = "7", {}
            return plain(create, token)

        at.etcd._watch = other  # type: ignore[assignment, method-assign]
        await asyncio.sleep(2)
        assert (at.feed.ids[-1], at.feed.regressed[-1]) == ([], True)

    at.run(test)


def test_a_second_opinion_is_a_second_read() -> None:
    """A set that the feed finds suspect is read anew at once, whether it came by a list or by a watch."""
    at = Watch()
    put(at.etcd, 1, 2)
    at.feed.again = [True, False, True]

    async def test() -> None:
        assert (len(at.lists), at.feed.ids) == (2, [["u1", "u2"]] * 2)
        drop(at.etcd, 1)
        await settle()
        assert (len(at.lists), at.feed.ids[2:]) == (3, [["u2"], ["u2"]])

    at.run(test)


# -- silence


def test_silence_is_looked_into() -> None:
    """While nothing is said the member is asked, cheaply and alone, whether anything changed; the set is fed as fresh."""
    at = Watch()
    put(at.etcd, 1)

    async def test() -> None:
        await asyncio.sleep(3 * SILENCE + 1)
        looks = [body for body in at.asked("/v3/kv/range") if "keys_only" in body]
        assert [(body["serializable"], body["min_mod_revision"]) for body in looks] == [(True, "3")] * 3
        assert (len(at.lists), len(at.asked("/v3/watch")), at.feed.ids) == (1, 1, [["u1"]] * 4)

    at.run(test)


@pytest.mark.parametrize("what", ["put", "change", "delete"])
def test_a_watch_that_misses_a_change_is_found_out(what: str) -> None:
    """What a dead watch does not say is known after one silence."""
    at = Watch()
    put(at.etcd, 1, 2)

    async def test() -> None:
        at.etcd.forget_watches()
        match what:
            case "put":
                put(at.etcd, 3)
            case "change":
                put(at.etcd, 2, status="critical")
            case "delete":
                drop(at.etcd, 2)
        await asyncio.sleep(SILENCE + 1)
        assert at.feed.ids[-1] == (["u1", "u2", "u3"] if what == "put" else ["u1"])
        assert at.feed.errors == []

    at.run(test)


def test_a_member_that_hangs_is_told_after_one_silence() -> None:
    """A watch that is held open by a stopped process is an error once the member does not answer either."""
    at = Watch()
    put(at.etcd, 1)

    async def test() -> None:
        at.etcd.hung = True
        await asyncio.sleep(SILENCE + 3 * TIMEOUT + 1)
        assert at.feed.said[0] == "snapshot"
        assert at.feed.errors
        assert at.feed.at[1] < SILENCE + 2 * TIMEOUT + 1
        at.etcd.hung = False
        await asyncio.sleep(2 * BACKOFF_CAP)
        assert (at.feed.said[-1], at.feed.ids[-1]) == ("snapshot", ["u1"])

    at.run(test)


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, RELIST * (1 - SPREAD)), (1.0, RELIST * (1 + SPREAD))])
def test_everything_is_read_again_now_and_then(chance: float, seconds: float) -> None:
    """A watch that is never silent, and lies, is found out all the same: five minutes, 20 % up or down."""
    at = Watch(chance=chance)
    put(at.etcd, 1)

    async def test() -> None:
        [watch] = at.etcd.forget_watches()
        put(at.etcd, 2)

        async def chatter() -> None:
            while True:
                watch.lines.put_nowait(at.etcd.line())
                await asyncio.sleep(5)

        talking = asyncio.create_task(chatter())
        await asyncio.sleep(seconds - 1)
        assert at.feed.ids == [["u1"]]
        await asyncio.sleep(2)
        talking.cancel()
        assert (at.feed.ids[1:], at.feed.errors) == ([["u1", "u2"]], [])
        assert not at.etcd.hung

    at.run(test)


def test_progress_moves_the_measure() -> None:
    """A progress message says how far the cluster is: going back behind it is a regress, though nothing of ours changed."""
    at = Watch()
    put(at.etcd, 1)

    async def test() -> None:
        before = at.etcd.revision
        at.etcd.revision += 100
        [watch] = at.etcd.watches
        watch.lines.put_nowait(at.etcd.line())
        await settle()
        at.etcd.revision = before + 50
        at.etcd.lose_watches()
        await asyncio.sleep(1)
        assert at.feed.regressed == [False, True]

    at.run(test)


# -- outages


@pytest.mark.parametrize("v1", [True, False])
def test_the_loss_of_the_leader_is_an_error(v1: bool) -> None:
    """The watch ends, no member has a leader: told at once; told back by the next snapshot, with nothing lost."""
    at = Watch(EtcdDouble(v1=v1))
    put(at.etcd, 1)

    async def test() -> None:
        at.etcd.leader = False
        at.etcd.end_watches(at.etcd.trouble())
        await asyncio.sleep(1)
        assert at.feed.said[:2] == ["snapshot", "error"]
        assert "no leader" in str(at.feed.errors[0])
        assert at.feed.at[1] < 1
        at.etcd.leader = True
        await asyncio.sleep(2 * BACKOFF_CAP)
        assert (at.feed.said[-1], at.feed.ids[-1], any(at.feed.regressed)) == ("snapshot", ["u1"], False)

    at.run(test)


@pytest.mark.parametrize("how", ["end", "lost", "nonsense", "refused"])
def test_a_watch_that_breaks_is_no_outage(how: str) -> None:
    """As long as another read succeeds nothing was lost: the set is read again, and no error is told."""
    at = Watch()
    put(at.etcd, 1)

    async def test() -> None:
        match how:
            case "end":
                at.etcd.end_watches()
            case "lost":
                at.etcd.lose_watches()
            case "nonsense":
                at.etcd.end_watches(b"<html>\n")
            case "refused":
                at.etcd.end_watches(at.etcd.trouble(message=""))
        put(at.etcd, 2)
        await asyncio.sleep(1)
        put(at.etcd, 3)
        await settle()
        assert (at.feed.ids[-1], at.feed.errors) == (["u1", "u2", "u3"], [])
        assert "3 instances" in repr(at.resolver)

    at.run(test)


def test_errors_are_told_and_tried_again_for_ever() -> None:
    """While etcd is away every try is an error, with full jitter up to 15 s between them, and none gives up."""
    at = Watch(chance=0.999)
    put(at.etcd, 1)

    async def test() -> None:
        at.etcd.cut = ConnectFailed("refused")
        at.etcd.lose_watches()
        await asyncio.sleep(3600)
        gaps = [after - before for before, after in zip(at.feed.at[1:], at.feed.at[2:], strict=False)]
        assert gaps[:4] == [pytest.approx(each, rel=0.01) for each in (0.5, 1.0, 2.0, 4.0)]
        assert max(gaps) == pytest.approx(BACKOFF_CAP, rel=0.01)
        assert len(at.feed.snapshots) == 1
        assert "failed" in str(at.resolver.describe())
        at.etcd.cut = None
        await asyncio.sleep(2 * BACKOFF_CAP)
        told = len(at.feed.at)
        at.etcd.cut = ConnectFailed("refused")
        at.etcd.lose_watches()
        await asyncio.sleep(5)
        assert at.feed.at[told + 1] - at.feed.at[told] == pytest.approx(0.5, rel=0.01), "the next outage begins anew"

    at.run(test)


def test_a_start_without_a_leader_takes_what_one_member_remembers() -> None:
    """It is fed once, before the error that marks it as old, and is no measure for what comes later."""
    at = Watch()
    put(at.etcd, 1, 2)
    at.etcd.leader = False

    async def test() -> None:
        await asyncio.sleep(60)
        assert at.feed.said[:3] == ["snapshot", "error", "error"]
        assert at.feed.said.count("snapshot") == 1
        at.etcd.leader = True
        at.etcd.revision = 2
        await asyncio.sleep(2 * BACKOFF_CAP)
        assert (at.feed.ids[-1], at.feed.regressed[-1]) == (["u1", "u2"], False)

    at.run(test)


def test_a_member_that_remembers_nothing_says_nothing() -> None:
    """A member that just joined has nothing yet: that is no empty set."""
    at = Watch()
    at.etcd.leader = False

    async def test() -> None:
        await asyncio.sleep(10)
        assert (at.feed.snapshots, bool(at.feed.errors)) == ([], True)

    at.run(test)


@pytest.mark.parametrize("body", [b'{"kvs": [{"key": "\xff"}]}', b'{"more": ' + b"[" * 10_000])
def test_an_answer_that_is_no_text_does_not_end_a_watch(body: bytes) -> None:
    """Bytes that are not UTF-8, or nested beyond reason, at a start as later: an error, and it tries again for ever."""
    at = Watch()
    at.etcd.answers["/v3/kv/range"] = Response(200, body)

    async def test() -> None:
        await asyncio.sleep(10)
        assert (at.feed.snapshots, len(at.feed.errors) > 1) == ([], True)
        del at.etcd.answers["/v3/kv/range"]
        put(at.etcd, 1)
        await asyncio.sleep(2 * BACKOFF_CAP)
        assert at.feed.ids[-1] == ["u1"]

    at.run(test)


def test_a_watch_that_never_holds_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Where something in between lets no stream through the set is read every few seconds, and the log says why."""
    at = Watch()
    put(at.etcd, 1)
    at.etcd.answers["/v3/watch"] = Response(502, b"<html>bad gateway</html>")

    async def test() -> None:
        await asyncio.sleep(120)
        put(at.etcd, 2)
        await asyncio.sleep(BACKOFF_CAP)
        assert (at.feed.ids[-1], at.feed.errors) == (["u1", "u2"], [])
        assert len(at.lists) > UNSTABLE

    at.run(test)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "does not hold" in told[0]
    assert "bad gateway" in told[0]


# -- members and users


def test_a_watch_moves_on_when_its_member_fails() -> None:
    """With another member that answers, a member that is lost costs a moment and no error; it is not returned to."""
    first, second = EtcdDouble(), EtcdDouble()
    for each in (first, second):
        put(each, 1)
    at = Watch(first, second)

    async def test() -> None:
        assert (len(first.watches), len(second.watches)) == (1, 0)
        first.cut = ConnectionLost("gone")
        first.lose_watches()
        put(second, 2)
        await asyncio.sleep(1)
        first.cut = None
        await asyncio.sleep(60)
        assert (len(first.watches), len(second.watches)) == (0, 1)
        assert (at.feed.ids[-1], at.feed.errors) == (["u1", "u2"], [])

    at.run(test)


@pytest.mark.parametrize("answer", ["502", "200"])
def test_a_member_that_gives_no_watch_is_left(answer: str) -> None:
    """It may answer reads as well as it likes: a watch that does not hold there is begun at the next one."""
    first, second = EtcdDouble(), EtcdDouble()
    at = Watch(first, second)
    for each in (first, second):
        put(each, 1)
    first.answers["/v3/watch"] = Response(502) if answer == "502" else Response(200, first.trouble())

    async def test() -> None:
        await asyncio.sleep(1)
        assert len(second.watches) == 1
        put(second, 2)
        await settle()
        assert (at.feed.ids[-1], at.feed.errors) == (["u1", "u2"], [])

    at.run(test)


def test_a_member_in_doubt_is_asked_itself() -> None:
    """What another member says of the news is no word on the watch of the one that hangs."""
    first, second = EtcdDouble(), EtcdDouble()
    at = Watch(first, second)
    for each in (first, second):
        put(each, 1)

    async def test() -> None:
        first.hung = True
        await asyncio.sleep(SILENCE + 3 * TIMEOUT)
        assert len(second.watches) == 1
        put(second, 2)
        await settle()
        assert (at.feed.ids[-1], at.feed.errors) == (["u1", "u2"], [])

    at.run(test)


def test_the_beginning_of_a_watch_is_no_measure() -> None:
    """It says where the cluster is, not what it told: a change in between that never comes is still found out."""
    at = Watch()
    put(at.etcd, 1, 2)

    async def test() -> None:
        def deaf() -> Response:
            put(at.etcd, 2, status="critical")

            async def lines() -> Any:
                yield at.etcd.line(created=True)
                await asyncio.sleep(3600)

            del at.etcd.answers["/v3/watch"]
            return Response(200, lines())

        at.etcd.answers["/v3/watch"] = deaf
        at.etcd.lose_watches()
        await asyncio.sleep(1)
        assert at.feed.ids[-1] == ["u1", "u2"]
        await asyncio.sleep(SILENCE + 1)
        assert at.feed.ids[-1] == ["u1"]

    at.run(test)


def test_a_line_without_an_end_is_cut_off() -> None:
    """What sends on and on without a line must not fill the memory."""

    async def main() -> None:
        async def pieces() -> Any:
            while True:
                yield b" " * (4 * 1024 * 1024)

        lines = Lines(Response(200, pieces()))
        with pytest.raises(PeerError, match="a line of more than"):
            await lines.next(10)
        await lines.close()

    run(main())


def test_watches_that_share_a_member_leave_it_together() -> None:
    """Ten watches that lose one member all go to the next one, and not each one further."""
    members = [EtcdDouble() for _ in range(3)]
    at = Watch(*members)

    async def test() -> None:
        others = [asyncio.create_task(at.resolver.watch(f"user{number}", Feed())) for number in range(10)]
        await settle()
        members[0].cut = ConnectionLost("gone")
        members[0].lose_watches()
        await asyncio.sleep(1)
        assert [len(each.watches) for each in members] == [0, 11, 0]
        for each in others:
            each.cancel()
        await asyncio.wait(others)

    at.run(test)


def test_a_password_file_that_cannot_be_read_does_not_end_a_watch() -> None:
    """A file that is not there yet is an error like any other, at a start too."""
    etcd = EtcdDouble()
    etcd.users = {"services": "word"}
    there: list[str] = []

    def password() -> str:
        if not there:
            raise FileNotFoundError(2, "No such file or directory", "/run/secrets/etcd")
        return there[0]

    at = Watch(etcd, login=Login("services", password))
    put(etcd, 1)

    async def test() -> None:
        await asyncio.sleep(10)
        assert "/run/secrets/etcd" in str(at.feed.errors[-1])
        there.append("word")
        await asyncio.sleep(2 * BACKOFF_CAP)
        assert (at.feed.said[-1], at.feed.ids[-1]) == ("snapshot", ["u1"])

    at.run(test)


@pytest.mark.parametrize("v1", [True, False])
def test_a_watch_with_an_old_token_gets_a_new_one(v1: bool) -> None:
    """etcd accepts a watch and cancels it at once when its token is old, and 3.5 calls that "permission denied"."""
    etcd = EtcdDouble(v1=v1)
    etcd.users = {"services": "word"}
    at = Watch(etcd, login=Login("services", lambda: "word"))
    put(etcd, 1)

    async def test() -> None:
        plain = etcd._admit
        etcd._admit = lambda request: None  # type: ignore[method-assign]  # a list that goes through all the same
        etcd.tokens.clear()
        etcd.lose_watches()
        await asyncio.sleep(2)
        etcd._admit = plain  # type: ignore[method-assign]
        put(etcd, 2)
        await settle()
        assert (at.feed.ids[-1], at.feed.errors) == (["u1", "u2"], [])

    at.run(test)


def _key(number: int) -> str:
    return b64(f"/mizzen/user/u{number}")


def _value(number: int) -> str:
    return b64(value(number))
