"""From arguments to a command and from whatever it raises to an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from mizzen.words.errors import CallError, StartError

from .commands import COMMANDS, overview
from .say import Usage, say_error

FAILED, UNUSABLE, INTERRUPTED = 1, 2, 130
"""Exit codes: it ran and failed; usage, configuration or start is wrong; Ctrl-C, as shells count it."""


def enter(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; every error that is not a defect becomes text on stderr."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except StartError as error:
        say_error(error)
        return UNUSABLE
    except CallError as error:
        say_error(StartError(error.detail))
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        # Python flushes stdout once more when it exits, which would fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if arguments[0] in ("-V", "--version"):
        arguments = ["version", *arguments[1:]]
    name, rest = arguments[0], arguments[1:]
    command = next((command for command in COMMANDS if command.name == name), None)
    if command is None:
        raise _no_command(name)
    if command.lean:
        from .lean import run_lean

        return run_lean(name, rest)
    return _run_full(name, rest)


def _run_full(name: str, arguments: list[str]) -> int:
    try:
        import rich  # noqa: F401  # only whether it is there
        import typer  # noqa: F401  # the same
    except ImportError as error:
        raise StartError(
            f"mizzen {name} needs {error.name}, which is not installed",
            where=[f"{', '.join(command.name for command in COMMANDS if command.lean)} work without it"],
            fix="pip install 'mizzen[cli]'",
        ) from None
    from .full import run_full

    return run_full(name, arguments)


def _no_command(name: str) -> Usage:
    from difflib import get_close_matches

    near = get_close_matches(name, [command.name for command in COMMANDS], n=1)
    if name.startswith("-"):
        return Usage(f"mizzen has no option {name}", fix="options follow the command: mizzen COMMAND --help")
    return Usage(
        f"mizzen has no command {name!r}",
        where=[f"it has {', '.join(command.name for command in COMMANDS)}"],
        fix=f"mizzen {near[0]}" if near else "mizzen --help",
    )
