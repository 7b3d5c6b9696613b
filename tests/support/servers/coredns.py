"""A real CoreDNS on loopback with one zone that the test rewrites; ``fail`` lets it answer an error instead."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
from ports import free_port

from .binaries import need
from .process import PATIENCE, ServerProcess

HOST = "127.0.0.1"
ZONE = "shop.internal"
RELOAD = "50ms"
"""Between two looks at the zone's file."""
ANSWER = 1.0
"""Seconds for an answer to the test itself."""

SERVES = """
{zone}:{port} {{
  bind {host}
  errors
  log
  file {file} {zone} {{
    reload {reload}
  }}
}}
"""
FAILS = """
{zone}:{port} {{
  bind {host}
  template ANY ANY {{
    rcode {rcode}
  }}
}}
"""
HEAD = """$ORIGIN {zone}.
@ 1 IN SOA ns.{zone}. admin.{zone}. {serial} 3600 600 86400 1
ns 1 IN A 127.0.0.1
"""


class CoreDns:
    """One server. Its zone is written whole by ``serve``, which returns once the server answers from it."""

    def __init__(self, folder: Path, name: str = "coredns", *, zone: str = ZONE) -> None:
        self.name = name
        self.zone = zone
        self.host, self.port = HOST, free_port()
        self.folder = folder
        self.lines: tuple[str, ...] = ()
        self._serial = 0
        self._failing = ""
        self.process = ServerProcess(name, [need("coredns"), "-conf", folder / f"{name}.conf"], folder=folder)

    @property
    def server(self) -> str:
        """As the option ``server=`` has it."""
        return f"{self.host}:{self.port}"

    def start(self) -> None:
        """Start it with the zone that it had; returns once it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = (FAILS if self._failing else SERVES).format(
            zone=self.zone, host=self.host, port=self.port, file=self._file, reload=RELOAD, rcode=self._failing
        )
        (self.folder / f"{self.name}.conf").write_text(text)
        self._write()
        self.process.start()
        self.process.until(self._ready)

    def serve(self, *lines: str) -> None:
        """Replace the zone, such as ``"user 1 IN A 10.0.0.1"``: names are relative to it unless they end with a dot."""
        self.lines = lines
        self._write()
        if self.process.running and not self._failing:
            self.process.until(self._ready, PATIENCE)

    def fail(self, rcode: str = "SERVFAIL") -> None:
        """Answer that to everything from now on, as a process of its own; empty ends it."""
        if rcode != self._failing:
            self._failing = rcode
            self.process.kill()
            self.start()

    def heal(self) -> None:
        """Let it run and answer from its zone, whatever was done to it."""
        self.process.thaw()
        self.fail("")
        if not self.process.running:
            self.start()

    def kill(self) -> None:
        self.process.kill()

    def freeze(self) -> None:
        self.process.freeze()

    def thaw(self) -> None:
        self.process.thaw()

    def ask(self, name: str, kind: str, *, payload: int = 1232) -> dns.message.Message:
        """Its answer to one datagram, cut off if it does not fit; ``OSError`` when there is none."""
        question = dns.message.make_query(name, kind, use_edns=0, payload=payload)
        try:
            return dns.query.udp(question, self.host, timeout=ANSWER, port=self.port)
        except dns.exception.Timeout:
            raise OSError(f"{self.name} does not answer") from None

    @property
    def _file(self) -> Path:
        return self.folder / f"{self.name}.zone"

    def _write(self) -> None:
        self._serial += 1
        text = HEAD.format(zone=self.zone, serial=self._serial) + "".join(f"{line}\n" for line in self.lines)
        fresh = self._file.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self._file)  # it never reads half of it

    def _ready(self) -> bool:
        try:
            said = self.ask(f"{self.zone}.", "SOA")
        except OSError:
            return False
        if self._failing:
            return dns.rcode.to_text(said.rcode()) == self._failing
        return any(record.serial == self._serial for rrset in said.answer for record in rrset)

    def __repr__(self) -> str:
        return f"<CoreDns {self.server} {'up' if self.process.running else 'down'}>"


@contextlib.contextmanager
def running(folder: Path, *lines: str, zone: str = ZONE) -> Iterator[CoreDns]:
    """A server with these records, ended whatever happens."""
    server = CoreDns(folder, zone=zone)
    server.serve(*lines)
    try:
        server.start()
        yield server
    finally:
        server.kill()
