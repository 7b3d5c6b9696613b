"""Steady load at a fixed rate: requests leave on a schedule whatever the answers do, so that a stall is seen."""

from __future__ import annotations

import http.client
import json
import threading
import time
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

PATIENCE = 20.0
"""Seconds for one answer; far more than any deadline of a service."""


class Sent(NamedTuple):
    """One request, and what became of it."""

    due: float
    """When it was to leave, on the monotonic clock."""
    begun: float
    ended: float
    status: int
    """0 when there was no answer."""
    said: Any
    """The body, as JSON when it is that; the error when there was no answer."""


class Steady:
    """``rate`` GET requests a second from ``threads`` connections, for at most ``most`` seconds; every answer is kept."""

    def __init__(self, url: str, *, rate: float, threads: int = 16, most: float = 600.0) -> None:
        self.sent: list[Sent] = []
        self._parts = urlsplit(url)
        self._step = 1.0 / rate
        self._most = int(rate * most)
        self._next = 0
        self._start = 0.0
        self._turn = threading.Lock()
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._run, name=f"steady-{i}", daemon=True) for i in range(threads)]

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    @property
    def failures(self) -> list[Sent]:
        """Everything that is not a 200."""
        return [sent for sent in list(self.sent) if sent.status != 200]

    @property
    def rate(self) -> float:
        """Requests a second that were really sent, from the first to the last."""
        sent = sorted(each.begun for each in list(self.sent))
        return (len(sent) - 1) / (sent[-1] - sent[0]) if len(sent) > 1 else 0.0

    def since(self, moment: float) -> list[Sent]:
        """Those that left after that moment, in their order."""
        return sorted(each for each in list(self.sent) if each.begun >= moment)

    def _due(self) -> float | None:
        with self._turn:
            if self._next >= self._most:
                return None
            number, self._next = self._next, self._next + 1
        return self._start + number * self._step

    def _run(self) -> None:
        connection = http.client.HTTPConnection(self._parts.hostname or "", self._parts.port, timeout=PATIENCE)
        while (due := self._due()) is not None:
            if self._end.wait(max(0.0, due - time.monotonic())):
                break
            begun = time.monotonic()
            try:
                connection.request("GET", self._parts.path)
                answer = connection.getresponse()
                body = answer.read()
                status, said = answer.status, json.loads(body) if body else None
            except (OSError, http.client.HTTPException, ValueError) as error:
                status, said = 0, f"{type(error).__name__}: {error}"
                connection.close()
            self.sent.append(Sent(due, begun, time.monotonic(), status, said))
        connection.close()
