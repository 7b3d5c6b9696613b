"""Certificates: TLS contexts made of files, and made anew when these change.

Files are looked at when a connection is opened, at most once a second: a look costs some microseconds, needs no thread
and no timer, and nobody could tell the difference before the next handshake anyway. What counts is the file that a path
leads to, since Kubernetes replaces a secret by turning a symbolic link.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from mizzen.words.clock import Clock, monotonic
from mizzen.words.errors import ConfigError

from .refused import is_refusal

LOOK_EVERY = 1.0
"""Seconds between looks at the files: sooner than a person who replaced them asks whether it worked."""
PROTOCOLS = ("http/1.1",)
"""What we speak above TLS, as its negotiation calls it (RFC 7301)."""

_PEM = {"cert": "-----BEGIN CERTIFICATE-----", "key": "PRIVATE KEY-----", "ca": "-----BEGIN CERTIFICATE-----"}
_HOLDS = {"cert": "no certificate", "key": "no private key", "ca": "no certificate"}
# OpenSSL's X509_V_ERR_…, x509_vfy.h
_EARLY, _EXPIRED, _UNKNOWN, _NAMES = 9, 10, (18, 19, 20, 21), (62, 64)

log = logging.getLogger("mizzen.tls")

Part = Literal["cert", "key", "ca"]


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Which files TLS is made of on one side, and how they are called where they were set."""

    cert: str | None = None
    """Our certificate with its chain, PEM."""
    key: str | None = None
    """Its key, PEM; None when that is in the same file."""
    password: str = ""
    """Of the key."""
    ca: str | None = None
    """Who may have signed the other side's certificate, PEM; None trusts the system's on a client, and asks callers for
    none on a server."""
    settings: Mapping[str, str] = {}
    """The full name of each part's setting, for messages."""
    origins: Mapping[str, str] = {}
    """Where each was set: ``mizzen.toml:14``."""

    def name(self, part: Part) -> str:
        """The setting of a part."""
        return self.settings.get(part, part)

    def paths(self) -> dict[Part, str]:
        """The parts that are set."""
        parts: dict[Part, str | None] = {"cert": self.cert, "key": self.key, "ca": self.ca}
        return {part: path for part, path in parts.items() if path is not None}

    def __repr__(self) -> str:
        return f"<TlsFiles {', '.join(f'{part} {path}' for part, path in self.paths().items()) or 'the system store'}>"


class Certificates:
    """The TLS of one side of one service: a context that follows its files. ``ConfigError`` names a file that is wrong.

    Once loaded it never fails: a broken new file is told once and the old certificate stays in use. ``exact`` is for a
    client that knows the very certificate of its peer, its own service: the first in ``ca`` is trusted, under whatever name,
    and no other.
    """

    def __init__(
        self, files: TlsFiles, *, server: bool, server_name: str = "", exact: bool = False, clock: Clock = monotonic
    ) -> None:
        self.files = files
        self.server_name = server_name
        self._server = server
        self._exact = exact
        self._clock = clock
        self._loaded = self._stamp()
        self._context = self._make()
        self._look_at = clock() + LOOK_EVERY
        self._told = ""

    def context(self) -> ssl.SSLContext:
        """The context for a new connection; those that are open keep the one they began with."""
        now = self._clock()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY
            self._refresh()
        return self._context

    def _refresh(self) -> None:
        stamp = self._stamp()  # before reading: what is written meanwhile is seen by the next look
        if stamp == self._loaded:
            self._told = ""
            return
        shown = ", ".join(sorted(set(self.files.paths().values())))
        try:
            context = self._make()
        except ConfigError as error:  # it may be half written: every look tries again
            if error.what != self._told:
                self._told = error.what
                log.warning("%s; the certificates loaded before stay in use; fix: %s", error.what, error.fix)
            return
        self._context, self._loaded, self._told = context, stamp, ""
        log.info("new TLS certificates from %s: connections opened from now on use them", shown)

    def _stamp(self) -> list[tuple[int, ...]]:
        stamps: list[tuple[int, ...]] = []
        for path in self.files.paths().values():
            try:
                found = Path(path).stat()  # of what a link leads to
                stamps.append((found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size))
            except OSError:
                stamps.append(())
        return stamps

    def _make(self) -> ssl.SSLContext:
        files = self.files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if self._server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION  # costs us more than whoever asks for it
        context.set_alpn_protocols(list(PROTOCOLS))
        texts = {part: self._read(part, path) for part, path in files.paths().items()}
        if files.cert is not None:
            try:
                # never without a password: OpenSSL would ask the terminal for one
                context.load_cert_chain(files.cert, files.key, password=files.password)
            except (ssl.SSLError, OSError, ValueError) as error:
                raise self._unfit(error, texts["cert" if files.key is None else "key"]) from None
        if files.ca is not None:
            try:
                if self._exact:  # not those behind it: who vouches for our own service vouches for others as well
                    context.load_verify_locations(cadata=_first(texts["ca"]))
                else:
                    context.load_verify_locations(cafile=files.ca)
            except (ssl.SSLError, OSError, ValueError) as error:
                raise self._wrong("ca", files.ca, f"is damaged ({_reason(error)})") from None
            context.verify_mode = ssl.CERT_REQUIRED
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # what the file has is trusted, be it no root
            if self._server:
                # A resumed session is not checked again, and a certificate may have expired. Python cannot keep TLS 1.2
                # from it, where one lasts two hours at most.
                context.num_tickets = 0
        elif not self._server:
            context.load_default_certs()
        if self._exact:
            context.check_hostname = False
        return context

    def _read(self, part: Part, path: str) -> str:
        try:
            text = Path(path).read_text(encoding="ascii", errors="replace")
        except OSError as error:
            raise self._wrong(part, path, f"cannot be read ({error.strerror or error})") from None
        if _PEM[part] not in text:
            raise self._wrong(part, path, f"has {_HOLDS[part]} in PEM form")
        return text

    def _unfit(self, error: Exception, text: str) -> ConfigError:
        """What is wrong with a certificate and key that look right by themselves; ``text`` is where the key is."""
        files = self.files
        cert, key = files.cert or "", files.key or files.cert or ""
        part: Part = "key" if files.key is not None else "cert"
        if _PEM["key"] not in text:
            return self._wrong(part, key, "has no private key in PEM form")
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            return self._wrong(part, key, f"does not belong to the certificate in {cert}")
        if "ENCRYPTED" in text:
            return self._wrong(part, key, "is encrypted, and its password is " + ("wrong" if files.password else "not set"))
        return self._wrong("cert", cert, f"or its key is damaged ({_reason(error)})")

    def _wrong(self, part: Part, path: str, what: str) -> ConfigError:
        name = self.files.name(part)
        origin = self.files.origins.get(part, "")
        return ConfigError(
            f"{name}: {path} {what}",
            where=[f"{origin}  {name}".strip()] if origin else [],
            fix=f"let {name} name a readable PEM file" + (", and set key_password" if "password" in what else ""),
        )

    def explain(self, error: BaseException, name: str) -> str:
        """Why a client's handshake with ``name`` failed, and the fix."""
        ours, ca = self.files.name("cert"), self.files.name("ca")
        code = getattr(error, "verify_code", None)
        if code in _NAMES:
            other = self.files.settings.get("server_name")
            return f"its certificate is not for {name!r}; call it by a name that it has{f', or set {other}' if other else ''}"
        if code == _EXPIRED:
            return f"its certificate, or one that vouches for it, has expired; renew it on {name}"
        if code == _EARLY:
            return f"its certificate is not valid yet; compare the clocks of {name} and of this machine"
        if code in _UNKNOWN:
            trusted = f"none in {self.files.ca}" if self.files.ca else "none in the system's store"
            return f"its certificate is signed by nobody we trust ({trusted}); set {ca} to the file of who signed it"
        if code is not None:
            return f"its certificate is not accepted: {getattr(error, 'verify_message', error)}"
        reason = _reason(error)
        if "WRONG_VERSION_NUMBER" in reason or "HTTP_REQUEST" in reason:
            return "it does not speak TLS there; write http:// in its address, or its TLS port"
        if "PROTOCOL_VERSION" in reason or "UNSUPPORTED_PROTOCOL" in reason:  # its alert, or ours
            return f"it speaks neither TLS 1.2 nor 1.3 ({reason}); update it"
        if is_refusal(reason):
            sent = f"the one in {self.files.cert}" if self.files.cert else "none"
            return f"it ended the handshake ({reason}), our certificate is {sent}; set {ours} to one that it accepts"
        return f"the TLS handshake failed: {reason}"

    def __repr__(self) -> str:
        return f"<Certificates of a {'server' if self._server else 'client'}: {self.files!r}>"


def _first(pem: str) -> str:
    """The first certificate of a file, which is that of whom the file is for (RFC 8446 §4.4.2)."""
    begin, end = _PEM["cert"], _PEM["cert"].replace("BEGIN", "END")
    return f"{begin}{pem.partition(begin)[2].partition(end)[0]}{end}\n"


def _reason(error: BaseException) -> str:
    return str(getattr(error, "reason", None) or str(error) or type(error).__name__)
