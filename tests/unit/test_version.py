"""What a source says its version is, with git, without it, and when git misbehaves."""

from __future__ import annotations

import os
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from mizzen.tools.ship import version as module
from mizzen.tools.ship.version import UNKNOWN, Version, ask_version, own_version, release_of, version_of


@pytest.fixture(autouse=True)
def _outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No repository above the temporary folder, no configuration of whoever runs the tests."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)


def git(folder: Path, *arguments: str) -> str:
    names = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run(["git", *names, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def fake_git(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


def test_a_commit_without_a_tag(repository: Path) -> None:
    """Without a tag the version is the commit, and it says whose word that is."""
    found = version_of(repository)
    assert found.commit == git(repository, "rev-parse", "HEAD")
    assert found.commit.startswith(found.text)
    assert (found.dirty, found.origin) == (False, "git describe")
    assert found.date == git(repository, "log", "-1", "--format=%cI")


def test_a_tag_and_changes(repository: Path) -> None:
    """A tag names the version, and changes that are not committed make it dirty, in a folder below as well."""
    git(repository, "tag", "v1.2.0")
    assert version_of(repository).text == "v1.2.0"
    (repository / "a").write_text("2")
    (repository / "below").mkdir()
    found = version_of(repository / "below")
    assert (found.text, found.dirty) == ("v1.2.0-dirty", True)


def test_outside_a_repository(tmp_path: Path) -> None:
    """Outside a repository it is the package's own version, and says so."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "shop"\nversion = "0.3.1"\n')
    assert version_of(tmp_path) == Version("0.3.1", origin="package shop: not in a git repository")


def test_a_version_that_only_the_installed_package_has(tmp_path: Path) -> None:
    """Where pyproject.toml leaves the version to the build, it is that of the installed package."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "msgspec"\ndynamic = ["version"]\n')
    assert version_of(tmp_path).text == metadata.version("msgspec")


@pytest.mark.parametrize("text", ["", "[project", "project = 3", '[project]\nname = "no-such-package-here"'])
def test_nobody_knows(tmp_path: Path, text: str) -> None:
    """Where nothing says a version, that is what it says."""
    (tmp_path / "pyproject.toml").write_text(text)
    assert version_of(tmp_path) == Version(UNKNOWN, origin="no version in pyproject.toml: not in a git repository")


def test_a_repository_without_a_commit(tmp_path: Path) -> None:
    """A repository without a commit has no version of its own yet."""
    git(tmp_path, "init", "-q")
    assert version_of(tmp_path).origin.endswith("the repository has no commit yet")


def test_git_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without git there is no exception."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert version_of(tmp_path).origin.endswith("git is not installed")


def test_git_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What git complains of is passed on."""
    fake_git(tmp_path, "echo 'fatal: odd' >&2; exit 1", monkeypatch)
    assert version_of(tmp_path).origin.endswith("git says: fatal: odd")


def test_git_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A git that does not answer is ended and told of."""
    monkeypatch.setattr(module, "GIT_LIMIT", 0.05)
    fake_git(tmp_path, "exec sleep 60", monkeypatch)
    assert "git did not answer" in version_of(tmp_path).origin


def test_no_folder(tmp_path: Path) -> None:
    """A folder that is not there is no exception either."""
    assert version_of(tmp_path / "none").text == UNKNOWN


def test_own_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mizzen's own version is that of the installed package, and of its source where it is not installed."""
    monkeypatch.setattr(metadata, "version", lambda name: f"{name} 9")
    assert own_version() == "mizzen 9"

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert own_version() == version_of(Path(module.__file__).parents[4]).text


def test_the_release(repository: Path) -> None:
    """A release is the last tag, the same for every commit after it, clean or not; without one it is the package's version."""
    assert release_of(repository) == UNKNOWN
    (repository / "pyproject.toml").write_text('[project]\nname = "shop"\nversion = "0.3.1"\n')
    assert release_of(repository) == "0.3.1"
    git(repository, "tag", "v1.2.0-rc-1")
    assert release_of(repository) == "v1.2.0-rc-1"
    (repository / "a").write_text("2")
    assert release_of(repository) == "v1.2.0-rc-1"
    git(repository, "commit", "-qam", "second")
    assert release_of(repository) == "v1.2.0-rc-1"


def test_the_release_without_git(tmp_path: Path) -> None:
    """Outside of a repository the release is the package's version too."""
    assert release_of(tmp_path) == UNKNOWN
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "shop"\nversion = "0.3.1"\n')
    assert release_of(tmp_path) == "0.3.1"


def test_a_version_that_was_asked_for(repository: Path) -> None:
    """It is the same as the one that is waited for, in a folder below as well."""
    git(repository, "tag", "v1.2.0")
    (repository / "below").mkdir()
    for folder in (repository, repository / "below"):
        asked = ask_version(str(folder))
        assert asked() == version_of(folder).text == "v1.2.0"


def test_asking_where_no_repository_is_starts_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a repository above the package's version is the answer, and git is not asked."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "shop"\nversion = "0.3.1"\n')
    fake_git(tmp_path, f"touch {tmp_path}/asked; echo v9", monkeypatch)
    assert ask_version(str(tmp_path))() == "0.3.1"
    assert not (tmp_path / "asked").exists()
    (tmp_path / ".git").mkdir()
    assert ask_version(str(tmp_path))() == "v9"


def test_asking_where_git_cannot_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A git that fails or is missing leaves what the package says."""
    (tmp_path / ".git").mkdir()
    fake_git(tmp_path, "exit 1", monkeypatch)
    assert ask_version(str(tmp_path))() == UNKNOWN
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert ask_version(str(tmp_path))() == UNKNOWN
