"""Prints the table of driver × fault at the end of a run that played some of it."""

from __future__ import annotations

import pytest
from rigs import table


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [
        report
        for outcome in ("passed", "failed", "skipped", "error")
        for report in terminalreporter.stats.get(outcome, [])
        if isinstance(report, pytest.TestReport)
    ]
    if said := table.lines(reports):
        terminalreporter.section("faults")
        for line in said:
            terminalreporter.write_line(line)
