"""A PostgreSQL server for tests: found on the machine, started on loopback in a folder of its own, gone afterwards."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

from ports import free_port

OWNER = "shop"
START_LIMIT = 30.0
"""Seconds; a server on a busy machine is up in two or three."""


class Absent(Exception):
    """There is no PostgreSQL server to start, and why."""


class Server:
    """A running server; every database in it is somebody's own."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, port: int, bin_folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.port = port
        self.programs = bin_folder
        self._numbers = count(1)

    def new_database(self) -> str:
        """Make an empty database and give its URL."""
        name = f"test_{next(self._numbers)}"
        command = [str(self.programs / "createdb"), "-h", "127.0.0.1", "-p", str(self.port), "-U", OWNER, name]
        subprocess.run(command, check=True, capture_output=True, timeout=START_LIMIT)
        return f"postgresql://{OWNER}@127.0.0.1:{self.port}/{name}"

    def stop(self) -> None:
        """End the server, its connections too, and remove its folder."""
        self.process.send_signal(signal.SIGINT)  # "fast": does not wait for clients
        self.process.wait(START_LIMIT)
        shutil.rmtree(self.folder, ignore_errors=True)


def start() -> Server:
    """Start a server with an empty cluster; ``Absent`` says why there is none."""
    bin_folder = _programs()
    user = _user()
    folder = Path(tempfile.mkdtemp(prefix="mizzen-pg-"))
    data = str(folder / "data")
    try:
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        owner: dict[str, Any] = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        init = [str(bin_folder / "initdb"), "-D", data, "-U", OWNER, "-A", "trust", "-E", "UTF8", "--no-sync"]
        made = subprocess.run(init, capture_output=True, text=True, timeout=120, cwd=folder, check=False, **owner)
        if made.returncode:
            raise Absent(f"initdb failed: {made.stderr.strip()[-300:]}")
        port = free_port()
        options = ["-h", "127.0.0.1", "-p", str(port), "-k", str(folder), "-F", "-c", "max_connections=60"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [str(bin_folder / "postgres"), "-D", data, *options], stdout=log, stderr=log, cwd=folder, **owner
            )
        server = Server(process, folder, port, bin_folder)
        _await_ready(server)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return server


def _programs() -> Path:
    """The folder of the newest server's own programs: Debian keeps them off the PATH."""
    folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    folders.sort(key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0)
    on_path = shutil.which("initdb")
    if not folders and on_path is None:
        raise Absent("no PostgreSQL server on this machine (Debian: apt-get install postgresql)")
    return folders[-1] if folders else Path(str(on_path)).resolve().parent


def _user() -> pwd.struct_passwd | None:
    """Whom the server runs as: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise Absent(f"PostgreSQL does not run as {getpass.getuser()}, and there is no other user to run it as")


def _await_ready(server: Server) -> None:
    ends = time.monotonic() + START_LIMIT
    ready = [str(server.programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(server.port)]
    while subprocess.run(ready, check=False, capture_output=True, timeout=START_LIMIT).returncode:
        if server.process.poll() is not None or time.monotonic() > ends:
            server.process.kill()
            server.process.wait()
            raise Absent(f"the server did not start: {(server.folder / 'log').read_text()[-300:]}")
        time.sleep(0.05)
