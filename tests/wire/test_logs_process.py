"""Logs of a whole process: whatever goes wrong in it, each line of stdout is JSON with the fields of a log line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from typing import Any

import pytest

pytestmark = pytest.mark.wire

FIELDS = ["time", "level", "message", "logger", "service", "version", "instance", "trace_id", "span_id"]

START = """
import asyncio, faulthandler, gc, logging, sys, threading, warnings
from mizzen.edges.telemetry import install
logs = install(service="order", version="1.2.3", instance="order-1")
"""


def run(body: str, *, code: int = 0, options: tuple[str, ...] = ()) -> tuple[list[dict[str, Any]], str]:
    """Run a program under our logs; its lines of stdout, each checked, and its stderr."""
    program = START + textwrap.dedent(body)
    done = subprocess.run(
        [sys.executable, *options, "-c", program], capture_output=True, text=True, timeout=30, check=False, env=os.environ
    )
    assert done.returncode == code, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for line in lines:
        assert list(line)[: len(FIELDS)] == FIELDS
        assert (line["service"], line["version"], line["instance"]) == ("order", "1.2.3", "order-1")
    return lines, done.stderr


def test_uncaught_exception_in_main() -> None:
    """What ends the process is its last line, critical and with the traceback; stderr stays empty."""
    lines, stderr = run("def main(): raise ValueError('no\\nway')\nmain()", code=1)
    assert (lines[-1]["level"], lines[-1]["logger"]) == ("critical", "mizzen.process")
    assert lines[-1]["message"] == "uncaught ValueError ends the process"
    assert lines[-1]["exception"].endswith("\nValueError: no\nway")
    assert ", in main\n" in lines[-1]["exception"]
    assert stderr == ""


def test_uncaught_exception_while_a_loop_is_attached() -> None:
    """Lines that were waiting for the loop's next turn are out before the process ends."""
    lines, _ = run(
        """
        async def main():
            logs.attach(asyncio.get_running_loop())
            logging.getLogger("shop").info("before")
            raise ValueError("no")
        asyncio.run(main())
        """,
        code=1,
    )
    assert [line["message"] for line in lines] == ["before", "uncaught ValueError ends the process"]


def test_keyboard_interrupt_stays_on_stderr() -> None:
    """A person's Ctrl-C is no event of the log."""
    lines, stderr = run("raise KeyboardInterrupt", code=-2)
    assert lines == []
    assert "KeyboardInterrupt" in stderr


def test_uncaught_exception_in_a_thread() -> None:
    """A thread that dies is an error that names the thread; one that asks for its end is none."""
    lines, stderr = run(
        """
        def fail(): raise ValueError("no")
        for target in (fail, sys.exit):
            thread = threading.Thread(target=target, name="worker-7")
            thread.start()
            thread.join()
        """
    )
    [line] = lines
    assert (line["level"], line["thread_name"]) == ("error", "worker-7")
    assert line["message"] == "uncaught ValueError ends thread worker-7"
    assert "ValueError: no" in line["exception"]
    assert stderr == ""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_uncaught_exceptions_in_asyncio(loop: str) -> None:
    """A task that nobody awaited and a callback that raised are errors with their tracebacks, on either loop."""
    pytest.importorskip(loop)
    lines, stderr = run(
        f"""
        import {loop} as chosen
        async def fail():
            raise ValueError("in a task")
        def call():
            raise KeyError("in a callback")
        async def main():
            loop = asyncio.get_running_loop()
            logs.attach(loop)
            loop.create_task(fail(), name="lost")
            loop.call_soon(call)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            gc.collect()
            await asyncio.sleep(0)
            logs.detach()
        runner = asyncio.Runner(loop_factory=chosen.new_event_loop)
        with runner:
            runner.run(main())
        """
    )
    failures = {line["exception"].splitlines()[-1]: line for line in lines if line["logger"] == "asyncio"}
    assert set(failures) == {"ValueError: in a task", "KeyError: 'in a callback'"}
    assert {line["level"] for line in failures.values()} == {"error"}
    assert "lost" in str(failures["ValueError: in a task"]["asyncio_future"])
    assert stderr == ""


def test_warnings_and_third_party_loggers() -> None:
    """A warning, a library's logger, one with a console handler of its own and a finaliser that raises: all are lines."""
    lines, stderr = run(
        """
        warnings.warn("old thing", DeprecationWarning)
        logging.getLogger("sqlalchemy.engine").warning("slow %s", "query", extra={"odd": object()})
        own = logging.getLogger("library")
        own.addHandler(logging.StreamHandler(sys.stdout))
        own.propagate = False
        logs.adopt()
        own.error("mine")
        class Bad:
            def __del__(self): raise ValueError("in a finaliser")
        Bad()
        logging.basicConfig()
        logging.warning("root")
        """,
        options=("-W", "always"),
    )
    assert [(line["logger"], line["level"]) for line in lines] == [
        ("py.warnings", "warning"), ("sqlalchemy.engine", "warning"), ("library", "error"), ("mizzen.process", "error"),
        ("root", "warning"),
    ]  # fmt: skip
    assert lines[0]["message"] == "DeprecationWarning: old thing"
    assert lines[3]["exception"].endswith("ValueError: in a finaliser")
    assert stderr == ""


def test_faulthandler_is_left_alone() -> None:
    """When Python itself breaks, faulthandler writes to stderr as ever, and stdout stays JSON."""
    lines, stderr = run(
        "faulthandler.enable()\nlogging.warning('before')\nfaulthandler._sigabrt()", code=-6, options=("-X", "faulthandler")
    )
    assert [line["message"] for line in lines] == ["before"]
    assert stderr.startswith("Fatal Python error: Aborted")


def test_a_reader_that_is_gone_does_not_end_the_process() -> None:
    """A process whose log nobody reads any more works on, and crashes still show on stderr."""
    program = START + "sys.stdin.read()\nfor _ in range(10): logging.warning('x')\nsys.stderr.write('done')"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b"done"
        assert process.wait(10) == 0


def test_a_crash_that_nobody_reads_goes_to_stderr() -> None:
    """Last words that stdout does not take are written to stderr instead of being lost."""
    end, other = os.pipe()
    os.set_blocking(other, False)
    try:
        while True:
            os.write(other, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(other, True)
    program = START + "raise ValueError('last words')"
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=other, stderr=subprocess.PIPE, timeout=30, check=False, env=os.environ
    )
    os.close(other)
    os.close(end)
    assert done.returncode == 1
    assert b"ValueError: last words" in done.stderr
