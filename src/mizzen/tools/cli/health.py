"""``mizzen health``: a probe for images that have no shell and no curl."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from .say import Usage, say
from .where import environment, only_service, read_system

if TYPE_CHECKING:
    import ssl

LIMIT = 2.0
"""Seconds for the whole question: platforms give a probe few more, and a slow health is a bad one."""
UNIX = "http+unix"
LARGEST = 1024 * 1024
"""Bytes of a report that are read; whatever is longer is no health report."""


def health(url: str | None, *, service: str | None, folder: str | None, limit: float = LIMIT) -> int:
    """Print the health report found at ``url``, by default the service's own; 0 when it is 200, else 1."""
    target, tls = (_complete(url), None) if url else _own_url(service, folder)
    try:
        status, report = ask(target, limit, tls=tls)
    except (OSError, http.client.HTTPException) as error:
        why = f"no answer within {limit:g}s" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        if getattr(error, "verify_code", 0):
            why = f"its certificate is not accepted: {getattr(error, 'verify_message', error)}"
            why += "" if tls is not None else "; SSL_CERT_FILE names the file of who signed it"
        say(f"error: no health at {target}: {why}")
        return 1
    print(report.decode(errors="replace").rstrip("\n"), flush=True)
    if status != 200:
        say(f"{target} answers {status}")
    return 0 if status == 200 else 1


def ask(url: str, limit: float, *, tls: ssl.SSLContext | None = None) -> tuple[int, bytes]:
    """Status and body of a GET, within ``limit`` seconds once connected; raises ``OSError`` or ``HTTPException``.

    ``tls`` is how an ``https:`` URL is verified, when not by what the system trusts.
    """
    parts = urlsplit(url)
    ends = time.monotonic() + limit
    connection: http.client.HTTPConnection
    if parts.scheme == UNIX:
        connection = _UnixConnection(unquote(parts.netloc), timeout=limit)
    elif parts.scheme == "https":
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=limit, context=tls)
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=limit)
    try:
        connection.connect()
        end = _end_at(ends, connection.sock)
        query = f"?{parts.query}" if parts.query else ""
        try:
            connection.request("GET", f"{parts.path}{query}", headers={"connection": "close", "accept": "application/json"})
            response = connection.getresponse()
            return response.status, response.read(LARGEST)
        finally:
            end.cancel()
            if time.monotonic() >= ends:  # whatever came of it
                raise TimeoutError
    finally:
        connection.close()


class _UnixConnection(http.client.HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path: str, *, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _end_at(ends: float, line: socket.socket) -> threading.Timer:
    """End a connection then, so that there is one limit for all that comes over it: a trickle could last for ever."""

    def end() -> None:
        with suppress(OSError):
            socket.socket.shutdown(line, socket.SHUT_RDWR)  # below TLS, which another thread is reading

    timer = threading.Timer(max(0.0, ends - time.monotonic()), end)
    timer.daemon = True
    timer.start()
    return timer


def _complete(url: str) -> str:
    text = url if "://" in url else f"http://{url}"
    scheme, _, rest = text.partition("://")
    if scheme == UNIX:  # the socket's path is percent-encoded where a path to ask for follows it
        place, _, path = (rest, "", "") if rest.startswith("/") else rest.partition("/")
        if not unquote(place).startswith("/"):
            raise Usage(f"mizzen health: {url!r} names no socket by its whole path", fix=f"such as {UNIX}:///run/order.sock")
        return f"{UNIX}://{quote(unquote(place), safe='')}/{path or 'health'}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise Usage(f"mizzen health: {url!r} is no URL: {error}", fix="such as http://127.0.0.1:8102") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise Usage(f"mizzen health: {url!r} is no URL of a service", fix="such as http://127.0.0.1:8102")
    return text.rstrip("/") + "/health" if parts.path in ("", "/") and not parts.query else text


def _own_url(service: str | None, folder: str | None) -> tuple[str, ssl.SSLContext | None]:
    """Where a service of this machine tells its health, and how to verify that it is the one."""
    system = read_system(folder, environment())
    if service is None and len(system.services) != 1:
        names = ", ".join(system.services) or "none"
        raise Usage(
            "mizzen health: whose health?",
            where=[f"{system.file.name} has {names}"],
            fix="mizzen health --service NAME, or mizzen health URL",
        )
    config = system.service(service or only_service(system))
    if config.socket is not None and config.admin.port is None:
        return _complete(f"{UNIX}://{config.socket}"), None
    tls = None
    if config.tls is not None and config.admin.port is None:
        from mizzen.assembly.tls import own_tls

        known = own_tls(system, service or only_service(system))
        tls = None if known is None else known.context()
    wildcard = config.socket is not None or config.host in ("0.0.0.0", "::", "")
    host = "127.0.0.1" if wildcard else config.host
    scheme = "http" if tls is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{config.admin.port or config.port}/health", tls
