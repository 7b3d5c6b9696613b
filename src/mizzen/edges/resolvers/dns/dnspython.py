"""DNS asked through dnspython (the ``dns`` extra): times to live, SRV records, truncated answers again over TCP."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.name
import dns.resolver

from mizzen.words.errors import CallError, CallTimeout, ConnectFailed, PeerError

from .records import FAMILIES, PEER, Absent, Kind, Said, Srv
from .sockets import Sockets

if TYPE_CHECKING:
    from dns.rdtypes.IN.A import A
    from dns.rdtypes.IN.SRV import SRV

LIFETIME = 4.5
"""Seconds for one question, repeated and asked of every name server: a start waits 5 s for a first word on a peer."""
PAYLOAD = 1232
"""Bytes of an answer over UDP that no network cuts into pieces (DNS flag day 2020); a longer one comes over TCP."""
RESOLV_CONF = "/etc/resolv.conf"
"""Where the system says whom to ask; dnspython reads it once, we look at it before each question."""
PORT = 53


class DnsPython:
    """Asks the name servers of ``resolv.conf``, which is read again when it has changed, or the one given.

    A name with a dot in it is complete, whether or not it ends with one; a single label goes through the search list of
    ``resolv.conf`` first. ``port`` is that of the servers named there, ``lifetime`` the seconds for one question.
    """

    def __init__(
        self,
        *,
        server: tuple[str, int] | None = None,
        resolv_conf: str = RESOLV_CONF,
        port: int = PORT,
        lifetime: float = LIFETIME,
    ) -> None:
        self.lifetime = lifetime
        self._server = server
        self._file = Path(resolv_conf)
        self._port = port
        self._backend = Sockets()
        self._made: tuple[object, dns.asyncresolver.Resolver] | None = None

    async def __call__(self, name: str, kind: Kind) -> Said:
        """The records of that kind; ``Absent`` when there is none, another ``CallError`` when nobody can say."""
        resolver = self._resolver()
        try:
            asked = dns.name.from_text(name, dns.name.root if "." in name else None)
            answer = await resolver.resolve(asked, kind, search=True, lifetime=self.lifetime, backend=self._backend)
        except dns.exception.DNSException as error:
            raise self._told(error, name, kind) from None
        return _said(answer, kind)

    def _resolver(self) -> dns.asyncresolver.Resolver:
        mark = self._mark()
        if self._made is None or self._made[0] != mark:
            resolver = dns.asyncresolver.Resolver(configure=False)
            if self._server is not None:
                resolver.nameservers, resolver.port = [self._server[0]], self._server[1]
            else:
                try:
                    resolver.read_resolv_conf(str(self._file))
                    resolver.port = self._port
                except (dns.exception.DNSException, ValueError) as error:  # ValueError: a name server that is no address
                    raise ConnectFailed(f"no name server to ask: {self._file}: {error}", peer=PEER) from None
            resolver.use_edns(0, 0, PAYLOAD)
            self._made = mark, resolver  # only now: a file that was read while it was being written is read again
        return self._made[1]

    def _mark(self) -> object:
        """What differs when the file was written since; a symbolic link may lead to another one."""
        if self._server is not None:
            return None
        try:
            status = self._file.stat()
        except OSError:
            return time.monotonic()
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _told(self, error: dns.exception.DNSException, name: str, kind: Kind) -> CallError:
        where = self._where()
        match error:
            case dns.resolver.NXDOMAIN():
                return Absent(f"there is no name {name} (NXDOMAIN from {where})", peer=PEER)
            case dns.resolver.NoAnswer():
                return Absent(f"{name} has no {kind} record, says {where}", peer=PEER)
            case dns.resolver.NoNameservers():
                reasons = ", ".join(dict.fromkeys(str(each[3]) for each in error.kwargs.get("errors", ())))
                return PeerError(f"{where} cannot say where {name} is ({reasons or 'no usable answer'})", peer=PEER)
            case dns.exception.Timeout():
                return CallTimeout(f"no answer about {name} from {where} in {self.lifetime:g}s", peer=PEER, limit="call")
        return PeerError(f"a look-up of {name} failed: {error}", peer=PEER)

    def _where(self) -> str:
        if self._server is not None:
            return _address(*self._server)
        made = self._made[1].nameservers if self._made is not None else ()
        return f"{', '.join(str(each) for each in made) or 'nobody'} ({self._file})"

    def __repr__(self) -> str:
        return f"<DnsPython asks {self._where()}>"


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _said(answer: dns.resolver.Answer, kind: Kind) -> Said:
    ttl = float(answer.chaining_result.minimum_ttl)
    kept = not answer.response.flags & dns.flags.AA
    if kind != "SRV":
        return Said(ttl, tuple(cast("A", record).address for record in answer), kept=kept)
    services = tuple(
        Srv(record.priority, record.weight, record.port, record.target.to_text().lower())
        for record in cast("list[SRV]", list(answer))
    )
    extra: dict[str, tuple[str, ...]] = {}
    targets = {record.target for record in services}
    for rrset in answer.response.additional:
        target = rrset.name.to_text().lower()
        if rrset.rdtype.name in FAMILIES and target in targets:
            extra[target] = extra.get(target, ()) + tuple(record.address for record in cast("list[A]", list(rrset)))
            ttl = min(ttl, float(rrset.ttl))
    return Said(ttl, services=services, extra=extra, kept=kept)
