"""What handlers use works inside them: on uvloop, on asyncio's own loop, and in a test's memory."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fleet import APPS, Answer, Fleet, Process, ask

from mizzen import Response, testing

pytestmark = pytest.mark.wire

TRACE = "0af7651916cd43dd8448eb211c80319c"
HEADERS = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
Get = Callable[..., Any]


def start(fleet: Fleet, loop: str) -> Process:
    """Start the service on that loop; a `uvloop` that cannot be imported is one that is not installed."""
    settings = {"MIZZEN__SERVICES__LIBRARIES__SETTINGS__DATABASE": str(fleet.folder / f"{loop}.db")}
    if loop == "asyncio":
        shadow = fleet.folder / "without-uvloop"
        shadow.mkdir()
        (shadow / "uvloop.py").write_text("raise ImportError('not for this platform')\n")
        settings["PYTHONPATH"] = os.pathsep.join([str(shadow), *(path for path in sys.path if path)])
    return fleet.start("libraries", settings=settings).ready()


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Process]]:
    """The service as two processes, one on each loop."""
    with Fleet(tmp_path_factory.mktemp("libraries")) as fleet:
        yield {loop: start(fleet, loop) for loop in ("uvloop", "asyncio")}


@pytest.fixture(params=["uvloop", "asyncio", "memory"])
def get(request: pytest.FixtureRequest, processes: dict[str, Process], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Get:
    """Gets a path of the service on that loop and gives the JSON of the answer."""
    monkeypatch.syspath_prepend(str(APPS))

    def get(path: str, *, status: int = 200, **fields: str) -> Any:
        headers = HEADERS | {name.replace("_", "-"): value for name, value in fields.items()}
        if request.param == "memory":
            answer: Answer | Response = asyncio.run(in_memory(path, tmp_path, headers))
        else:
            answer = ask(processes[request.param].url + path, headers=headers)
        assert answer.status == status, answer.body
        return answer.json()

    return get


@pytest.fixture
def elsewhere(processes: dict[str, Process]) -> str:
    """A URL that a handler may ask."""
    return f"{processes['uvloop'].url}/where"


async def in_memory(path: str, folder: Path, headers: dict[str, str]) -> Response:
    from chain.libraries import Settings, build

    async with testing.client(build(Settings(str(folder / "memory.db")))) as http:
        return await http.get(path, headers=headers)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_the_loop_is_the_one_that_is_meant(processes: dict[str, Process], loop: str) -> None:
    """A service runs on uvloop where it is installed and on asyncio's own loop elsewhere, on the Python of these tests."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert ask(f"{processes[loop].url}/where").json() == {"loop": loop, "python": version}


def test_asyncio_timeout(get: Get) -> None:
    """A handler's own time limits end what they are around, and nothing else."""
    assert get("/timeout") == {"loose": False, "inner": True, "outer": True}


def test_task_group(get: Get) -> None:
    """Tasks that a handler starts work for the same request."""
    assert {found["trace_id"] for found in get("/task-group")} == {TRACE}


def test_failing_task_group(get: Get) -> None:
    """A task that fails ends its group with the handler still in charge."""
    assert get("/failing-group") == {"caught": "of a task", "cancelled": "yes"}


def test_deadline_inside_of_limits_and_groups(get: Get) -> None:
    """A request's deadline ends limits and groups that a handler is in, and is not taken for one of them."""
    problem = get("/within-limits", status=504, x_request_timeout_ms="100")
    assert "within the request's deadline" in problem["detail"]


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_tasks_of_a_request_that_is_over(processes: dict[str, Process], loop: str) -> None:
    """A deadline that ends a handler ends the tasks that it waits for, whatever they wait in."""
    url = processes[loop].url
    before = ask(f"{url}/ended").json()
    assert ask(f"{url}/within-limits", headers={"x-request-timeout-ms": "100"}).status == 504
    assert ask(f"{url}/ended").json() == before + 3


def test_context_variables(get: Get) -> None:
    """A context variable that a handler sets is seen by its tasks and threads, and by no other request."""
    with ThreadPoolExecutor(8) as threads:
        names = [f"tenant-{number}" for number in range(8)]
        found = list(threads.map(lambda name: get(f"/context-variable/{name}"), names))
    assert found == [["nobody", name, name, name, "nobody"] for name in names]


def test_handlers_in_threads(get: Get) -> None:
    """A handler without `async` runs in a thread of its own, with its request's context and no other's."""
    with ThreadPoolExecutor(8) as threads:
        names = [f"tenant-{number}" for number in range(8)]
        found = list(threads.map(lambda name: get(f"/in-thread/{name}"), names))
    for name, (trace_id, thread, before, after) in zip(names, found, strict=True):
        assert (trace_id, before, after) == (TRACE, "nobody", name)
        assert thread.startswith("handler_")


def test_to_thread(get: Get) -> None:
    """What a handler hands to a thread finds the request that it works for."""
    on_loop, in_thread = get("/to-thread")
    assert on_loop["trace_id"] == in_thread["trace_id"] == TRACE
    assert on_loop["thread"] != in_thread["thread"]


@pytest.mark.parametrize("library", ["httpx", "aiohttp"])
def test_other_clients(get: Get, elsewhere: str, library: str) -> None:
    """Other HTTP clients work inside a handler, several calls at once."""
    assert set(get(f"/{library}?url={elsewhere}")) == {200}


def test_sqlalchemy(get: Get) -> None:
    """SQLAlchemy's asyncio API works inside handlers, several of them at once."""
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda name: get(f"/sqlalchemy/{name}"), "abcd")) == [2] * 4


def test_opentelemetry(get: Get) -> None:
    """OpenTelemetry's current span and baggage are the request's own, across waiting, tasks and threads."""
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda name: get(f"/opentelemetry/{name}"), "abcd"):
            assert set(found.values()) == {True}
