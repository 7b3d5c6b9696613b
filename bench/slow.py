"""Two promises about time: a deadline that ends a slow chain, and probes that answer when nothing else has a place."""

from __future__ import annotations

import http.client
import statistics
import threading
import time
from collections import Counter
from typing import NamedTuple
from urllib.parse import urlsplit

import programs
from saturation import saturate

DEADLINE_MS = 50
DEADLINE_TRIES = 100
PLACES = 100
"""The limit in flight of the measured server: all taken by handlers that sleep."""
SLEEP_MS = 8000
PROBES = 200


class Outcome(NamedTuple):
    """A line of the table, and what it was made from."""

    text: str
    numbers: dict[str, float]


def measure(user_url: str, *, core: int | None, other: int | None) -> dict[str, Outcome]:
    """Both measurements, each on a server of its own."""
    order = programs.mizzen("order", core=core, user_url=user_url, name="deadline-order")
    try:
        order.wait("/orders/1")
        outcomes = {f"time to 504, x-request-timeout-ms: {DEADLINE_MS}, chain of two": _deadlines(order.url)}
    finally:
        order.stop()
    limit = {"MIZZEN__SERVICES__USER__LIMITS__IN_FLIGHT": str(PLACES)}
    user = programs.mizzen("user", core=core, settings=limit, name="saturated-user")
    try:
        user.wait("/users/1")
        for path, outcome in _probes(user, other).items():
            outcomes[f"GET {path}, all {PLACES} places taken and load on top"] = outcome
    finally:
        user.stop()
    return outcomes


def _deadlines(url: str) -> Outcome:
    seen = [_timed(url, "/slow/2000", {"x-request-timeout-ms": str(DEADLINE_MS)}) for _ in range(DEADLINE_TRIES)]
    outcome = _outcome([seconds for seconds, _ in seen])
    others = Counter(status for _, status in seen if status != 504)
    wrong = "".join(f"; MISSED: {count} answered {status}" for status, count in sorted(others.items()))
    return Outcome(outcome.text + wrong, outcome.numbers | {"not_504": others.total()})


def _probes(server: programs.Server, other: int | None) -> dict[str, Outcome]:
    url = server.url
    holders = [threading.Thread(target=_hold, args=(url,)) for _ in range(PLACES)]
    for holder in holders:
        holder.start()
    ends = time.monotonic() + 5
    while _timed(url, "/users/1", {})[1] != 503:
        if time.monotonic() > ends:
            raise RuntimeError("the limit in flight refuses nothing")
        time.sleep(0.05)
    outcomes = {}
    # More load than the server can answer: every answer is a refusal, and the loop never idles.
    pressure = threading.Thread(
        target=saturate, args=(server.address, "/users/1"), kwargs={"seconds": 4, "connections": 64, "core": other}
    )
    pressure.start()
    time.sleep(0.3)
    for path in ("/live", "/ready"):
        taken: list[float] = []
        ends = time.monotonic() + 1.5
        while len(taken) < PROBES and time.monotonic() < ends:
            seconds, status = _timed(url, path, {})
            if status != 200:
                raise RuntimeError(f"{path} answered {status} at saturation")
            taken.append(seconds)
        outcomes[path] = _outcome(taken)
    pressure.join()
    for holder in holders:
        holder.join()
    return outcomes


def _hold(url: str) -> None:
    _timed(url, f"/slow/{SLEEP_MS}", {})


def _timed(url: str, path: str, headers: dict[str, str]) -> tuple[float, int]:
    """Seconds and status of one request on a connection of its own, as a probe would come."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
    began = time.perf_counter()
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return time.perf_counter() - began, answer.status
    finally:
        connection.close()


def _outcome(taken: list[float]) -> Outcome:
    times = sorted(seconds * 1000 for seconds in taken)
    p50, p99, most = statistics.median(times), times[int(len(times) * 0.99) - 1], times[-1]
    numbers = {"p50_ms": p50, "p99_ms": p99, "max_ms": most, "count": len(times)}
    return Outcome(f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, at most {most:.1f} ms of {len(times)}", numbers)
