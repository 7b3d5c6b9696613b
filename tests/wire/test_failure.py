"""Failure between real processes: what a caller sees when its peer refuses, hangs, restarts or dies."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest
from fleet import Fleet, Load, ask, free_port, until

pytestmark = pytest.mark.wire

COOLDOWN = "1s"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path) as fleet:
        yield fleet


class Peer:
    """A peer that the test plays: each connection gets the next of its answers, or is closed without one."""

    def __init__(self, answer: Callable[[int, bytes], bytes | None]) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            data = b""
            while True:
                while b"\r\n\r\n" not in data:
                    piece = connection.recv(65536)
                    if not piece:
                        return
                    data += piece
                head, _, data = data.partition(b"\r\n\r\n")
                length = next(
                    (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
                )
                while len(data) < length:
                    data += connection.recv(65536)
                data = data[length:]
                self.requests.append(head)
                answer = self._answer(len(self.requests), head)
                if answer is None:
                    return
                connection.sendall(answer)


def said(status: int, body: bytes = b"{}", extra: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b" % (
        status,
        extra,
        len(body),
        body,
    )


def fixed(port: int, **more: str) -> dict[str, str]:
    """Settings for `order` that put `user` at one fixed address."""
    key = "MIZZEN__SERVICES__ORDER__CLIENTS__USER__"
    return {
        key + "URL": f"http://127.0.0.1:{port}",
        key + "TIMEOUT": "600ms",
        key + "BREAKER__COOLDOWN": COOLDOWN,
        **{key + name.upper(): value for name, value in more.items()},
    }


def test_refusing_peer_opens_the_breaker_at_the_sixth_call_and_one_trial_closes_it(fleet: Fleet) -> None:
    """Five failed calls open the breaker; the sixth is refused without a connection; a trial after it closes it."""
    port = free_port()
    order = fleet.start("order", settings=fixed(port)).ready()
    for _ in range(5):
        answer = ask(order.url + "/orders/1")
        assert (answer.status, answer.headers["content-type"]) == (503, "application/problem+json")
        assert "refused" in answer.json()["detail"].lower()
    sixth = ask(order.url + "/orders/1")
    assert sixth.status == 503
    assert "breaker of user is open: 5 calls failed (5 refused)" in sixth.json()["detail"]
    health = until(lambda: (h := ask(order.url + "/health")).json()["status"] == "degraded" and h, "health says so")
    assert health.status == 200
    assert health.json()["checks"]["user"]["ok"] is False

    fleet.start("user", port=port).ready()
    until(lambda: ask(order.url + "/orders/1").status == 200, "a trial succeeds")
    assert all(ask(order.url + "/orders/1").status == 200 for _ in range(10))
    changes = [line["state"] for line in order.lines() if line.get("event") == "breaker_changed"]
    assert changes == ["open", "half_open", "closed"]


def test_stopped_peer_is_answered_for_within_the_deadline_and_then_at_once(fleet: Fleet) -> None:
    """A peer that hangs costs five calls their timeout and nothing after that."""
    user = fleet.start("user").ready()
    order = fleet.start("order", settings=fixed(user.port)).ready()
    assert ask(order.url + "/orders/1").status == 200
    user.signal(signal.SIGSTOP)
    for _ in range(5):
        answer = ask(order.url + "/orders/1")
        assert answer.status == 503
        assert 0.3 < answer.seconds < 2
    sixth = ask(order.url + "/orders/1")
    assert sixth.status == 503
    assert sixth.seconds < 0.3
    assert "(5 timeout)" in sixth.json()["detail"]
    user.signal(signal.SIGCONT)
    until(lambda: ask(order.url + "/orders/1").status == 200, "a trial succeeds")


def test_a_404_between_failures_resets_the_count(fleet: Fleet) -> None:
    """Only failures in a row open the breaker: a 404 is an answer of a healthy peer."""
    script = [500] * 4 + [404] + [500] * 5
    with Peer(lambda number, head: said(script[number - 1] if number <= len(script) else 200)) as peer:
        order = fleet.start("order", settings=fixed(peer.port)).ready()
        statuses = [ask(order.url + "/strict/1").status for _ in range(12)]
    assert statuses == [502] * 10 + [503] * 2
    assert len(peer.requests) == 10


def test_post_to_a_peer_that_dies_is_delivered_exactly_once(fleet: Fleet) -> None:
    """A POST whose connection ends after it was sent is never sent again."""
    with Peer(lambda number, head: None) as peer:
        order = fleet.start("order", settings=fixed(peer.port)).ready()
        body = b'{"id": "1", "user": null}'
        answer = ask(order.url + "/orders", "POST", body=body, headers={"content-type": "application/json"})
        assert answer.status == 503
        assert answer.headers["x-should-retry"] == "false"
    assert [head.split()[0] for head in peer.requests] == [b"POST"]


def test_get_goes_to_another_instance_when_one_dies_mid_request(fleet: Fleet) -> None:
    """A GET that one instance drops is answered by another."""
    with Peer(lambda number, head: None) as dying, Peer(lambda number, head: said(200, b'{"id": "1"}')) as healthy:
        order = fleet.start(
            "order",
            settings={"MIZZEN__DISCOVERY__URL": f"static:user=127.0.0.1:{dying.port},127.0.0.1:{healthy.port}"},
        ).ready()
        assert [ask(order.url + "/orders/1").status for _ in range(20)] == [200] * 20
        assert dying.requests
        assert len(healthy.requests) == 20


def test_connection_closed_while_idle_is_nobodys_error(fleet: Fleet) -> None:
    """A kept-alive connection that the peer closed after its answer fails neither a GET nor a POST."""

    def close_after(number: int, head: bytes) -> bytes:
        return said(200, b'{"id": "1", "pid": 0}')

    class Closing(Peer):
        def _serve(self, connection: socket.socket) -> None:
            answered = threading.Event()

            def answer(number: int, head: bytes) -> bytes | None:
                if answered.is_set():
                    return None
                answered.set()
                threading.Timer(0.02, connection.shutdown, (socket.SHUT_RDWR,)).start()
                return said(200, b'{"id": "1", "pid": 0}')

            self._answer = answer
            super()._serve(connection)

    with Closing(close_after) as peer:
        order = fleet.start("order", settings=fixed(peer.port)).ready()
        body = b'{"id": "1", "user": null}'
        for _ in range(10):
            assert ask(order.url + "/orders/1").status == 200
            done = threading.Event()
            done.wait(0.05)  # let the peer's FIN arrive while the connection is idle
            answer = ask(order.url + "/orders", "POST", body=body, headers={"content-type": "application/json"})
            assert answer.status == 200
            done.wait(0.05)
        assert sum(head.startswith(b"POST") for head in peer.requests) == 10


def test_rolling_restart_loses_no_request_and_keeps_the_ids(fleet: Fleet) -> None:
    """Two instances are restarted one after the other under load: no caller notices, and their ids are the same."""
    fleet.with_registry()
    users = [fleet.start("user").ready() for _ in range(2)]
    order = fleet.start("order").ready()
    until(lambda: len(fleet.instances("user")) == 2, "both are registered")
    before = fleet.instances("user")
    with Load(order.url + "/orders/1") as load:
        load.more(100)
        for user in users:
            assert user.stop() == 0
            fleet.start("user", port=user.port).ready()
            until(lambda: len(fleet.instances("user")) == 2, "it is registered again")
            load.more(100)
    assert load.failures == []
    assert len(load.statuses) > 300
    assert fleet.instances("user") == before


def test_losing_the_registry_loses_no_request_and_no_id(fleet: Fleet) -> None:
    """The registry dies under load, with all it knew, and comes back empty: no caller notices, everybody is in it again."""
    registry = fleet.with_registry()
    for _ in range(2):
        fleet.start("user").ready()
    order = fleet.start("order").ready()
    until(lambda: len(fleet.instances("user")) == 2 and fleet.instances("order"), "all are registered")
    before = fleet.instances("user")
    with Load(order.url + "/orders/1") as load:
        load.more(100)
        registry.end()
        until(lambda: any(line.get("event") == "registry_lost" for line in order.lines()), "its loss is noticed")
        load.more(200)
        fleet.with_registry(registry.port)
        until(lambda: fleet.instances("user") == before, "they are registered again, under their ids")
        load.more(200)
    assert load.failures == []
    assert set(load.statuses) == {200}


def test_stopped_instance_among_three_costs_no_get(fleet: Fleet) -> None:
    """One of three instances hangs under load: no GET fails, neither then nor when it is let back in."""
    fleet.with_registry()
    users = [fleet.start("user").ready() for _ in range(3)]
    order = fleet.start("order").ready()
    until(lambda: len(fleet.instances("user")) == 3, "all are registered")
    with Load(order.url + "/orders/1") as load:
        load.more(300)
        users[0].signal(signal.SIGSTOP)
        until(
            lambda: any(line.get("event") == "ejected" for line in order.lines()) or len(fleet.instances("user")) == 2,
            "it is ejected, or found out by its registry",
        )
        load.more(400)
        settled = sorted(seconds for _, seconds in load.seconds[-300:])
        users[0].signal(signal.SIGCONT)
        load.more(400)
    assert load.failures == []
    assert set(load.statuses) == {200}
    assert settled[int(len(settled) * 0.99) - 1] < 0.3
