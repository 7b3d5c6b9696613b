"""Version: what a service's source says it is, from ``git describe`` where there is a repository."""

from __future__ import annotations

import os
import subprocess
import tomllib
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from mizzen.words.lazy import pattern

if TYPE_CHECKING:
    from pathlib import Path

GIT_LIMIT = 2.0
"""Seconds for git: enough for a large repository on a cold disk, and a start never hangs on a stale network mount."""
UNKNOWN = "0+unknown"
"""A version that sorts before every other (PEP 440) for what says none."""

_DESCRIBE = ("describe", "--tags", "--dirty", "--always")
_SINCE = pattern(r"-\d+-g[0-9a-f]+$")
"""Commits since the last tag, as ``git describe`` adds them to it."""
_NO_COMMIT = ("No names found", "Not a valid object name", "does not have any commits", "bad revision 'HEAD'")


class Version(Struct, frozen=True):
    """What some source is, and who says so."""

    text: str
    """As ``git describe --tags --dirty --always`` has it, or the package's version."""
    commit: str = ""
    """The whole commit id; empty outside a repository."""
    date: str = ""
    """The commit's date, ISO 8601."""
    dirty: bool = False
    """Whether tracked files differ from the commit."""
    origin: str = ""
    """Who says so: ``git describe``, or the package, and why not git."""


def version_of(folder: Path) -> Version:
    """The version of the source in ``folder``: git's, else its package's own, and then ``origin`` says why. Never raises."""
    described, commit, why = _ask_git(folder)
    if described:
        commit_id, _, date = commit.partition(" ")
        return Version(described, commit_id, date, described.endswith("-dirty"), "git describe")
    name, text = _package(folder)
    if text:
        return Version(text, origin=f"package {name}: {why}")
    return Version(UNKNOWN, origin=f"no version in pyproject.toml: {why}")


def ask_version(folder: str) -> Callable[[], str]:
    """Ask for the text of ``version_of(folder)``, which what comes back then waits for: git works while a start goes on."""
    asked = None
    if _in_repository(folder):  # else a process would only say so
        with suppress(OSError):
            asked = _git(folder, *_DESCRIBE)

    def text() -> str:
        described = "" if asked is None else _answer(asked)[0]
        return described or _package(folder)[1] or UNKNOWN

    return text


def _in_repository(folder: str) -> bool:
    parts = os.path.abspath(folder).split(os.sep)
    return any(os.path.lexists(os.sep.join([*parts[:end], ".git"])) for end in range(len(parts), 0, -1))


def release_of(folder: Path) -> str:
    """The release that the source in ``folder`` is or follows: its last tag, else its package's version. Never raises.

    Unlike the version it is the same for every commit between two tags, so that it can stand in a file that is committed.
    """
    found = version_of(folder)
    tag = _SINCE.sub("", found.text.removesuffix("-dirty"))
    if found.commit and not found.commit.startswith(tag):
        return tag
    return _package(folder)[1] or UNKNOWN


def own_version() -> str:
    """The version of Mizzen itself: the installed package's, else that of the source it runs from."""
    from importlib.metadata import PackageNotFoundError, version  # 20 ms that only this question is worth

    try:
        return version("mizzen")
    except PackageNotFoundError:
        from pathlib import Path

        return version_of(Path(__file__).resolve().parents[4]).text


def _ask_git(folder: Path) -> tuple[str, str, str]:
    """Description, commit and date, or why there are none; both questions at once, since each costs a process."""
    try:
        asked = [
            _git(folder, *_DESCRIBE),
            _git(folder, "log", "-1", "--format=%H %cI"),
        ]
    except FileNotFoundError:
        return "", "", "git is not installed" if folder.is_dir() else f"{folder} is no folder"
    except OSError as error:
        return "", "", f"git cannot be run: {error.strerror}"
    answers = [_answer(process) for process in asked]
    if failed := next((why for _, why in answers if why), ""):
        return "", "", failed
    return answers[0][0], answers[1][0], ""


def _git(folder: Path | str, *arguments: str) -> subprocess.Popen[str]:
    # Without optional locks: a question must not get into the way of a commit under way.
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    )


def _answer(process: subprocess.Popen[str]) -> tuple[str, str]:
    with process:
        try:
            out, err = process.communicate(timeout=GIT_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            return "", f"git did not answer within {GIT_LIMIT:.0f}s"
    if process.returncode == 0 and out.strip():
        return out.strip(), ""
    if "not a git repository" in err:
        return "", "not in a git repository"
    if "dubious ownership" in err:
        return "", "the repository belongs to another user, so git does not read it"
    if any(sign in err for sign in _NO_COMMIT):
        return "", "the repository has no commit yet"
    return "", f"git says: {err.strip().partition(chr(10))[0] or f'exit {process.returncode}'}"


def _package(folder: Path | str) -> tuple[str, str]:
    """Name and version by pyproject.toml: as written there, else of the installed package of that name."""
    try:
        with open(os.path.join(folder, "pyproject.toml"), "rb") as file:
            project: Any = tomllib.load(file).get("project", {})
    except (OSError, ValueError):  # none, or one that cannot be read: then it says no version
        return "", ""
    if not isinstance(project, dict) or not isinstance(project.get("name"), str):
        return "", ""
    name, text = project["name"], project.get("version")
    if isinstance(text, str):
        return name, text
    from importlib.metadata import PackageNotFoundError, version

    try:
        return name, version(name)
    except PackageNotFoundError:
        return name, ""
