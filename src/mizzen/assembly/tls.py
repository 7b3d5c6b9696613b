"""TLS as configured: from the settings of a service and of its clients to certificates that follow their files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl

    from mizzen.edges.http import Certificates, Tls, TlsFiles
    from mizzen.rules.config import System


def server_tls(system: System, name: str) -> Certificates | None:
    """With what a service answers HTTPS, when it does; ``ConfigError`` names a file that is wrong."""
    config = system.service(name).tls
    if config is None:
        return None
    from mizzen.edges.http import Certificates

    parts = {"cert": "cert", "key": "key", "ca": "client_ca"}
    return Certificates(_files(system, ("services", name, "tls"), config, parts), server=True)


def peer_tls(system: System, name: str, peer: str) -> Certificates | None:
    """How service ``name`` verifies ``peer``, when that is configured; ``ConfigError`` names a file that is wrong."""
    client = system.service(name).clients.get(peer)
    config = None if client is None else client.tls
    if config is None:
        return None
    from mizzen.edges.http import Certificates

    parts = {"cert": "cert", "key": "key", "ca": "ca", "server_name": "server_name"}
    files = _files(system, ("services", name, "clients", peer, "tls"), config, parts)
    return Certificates(files, server=False, server_name=config.server_name or "")


def usual_tls(settings: Mapping[str, str]) -> Certificates:
    """Verification by what the system trusts; ``settings`` name what can change that."""
    from mizzen.edges.http import Certificates, TlsFiles

    return Certificates(TlsFiles(settings=settings), server=False)


def unverified_tls() -> Tls:
    """For the registry's checks that ask for it, Consul's ``TLSSkipVerify``; nothing else of ours skips verification."""
    return _Unverified()


def own_tls(system: System, name: str) -> Certificates | None:
    """How this machine's own service is asked, when it answers HTTPS: by its own certificate, which we know by its file.

    It is trusted under whatever address, and shown in turn to a service that asks callers for one.
    """
    config = system.service(name).tls
    if config is None:
        return None
    from mizzen.edges.http import Certificates, TlsFiles

    cert = str(system.folder / config.cert)
    files = TlsFiles(ca=cert, settings={"ca": f"services.{name}.tls.cert"})
    if config.client_ca is not None:
        key = str(system.folder / config.key) if config.key else None
        files = TlsFiles(ca=cert, cert=cert, key=key, password=config.key_password or "", settings=files.settings)
    return Certificates(files, server=False, exact=True)


class _Unverified:
    server_name = ""

    def context(self) -> ssl.SSLContext:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    def explain(self, error: BaseException, name: str) -> str:
        return f"the TLS handshake failed: {error}"


def _files(system: System, path: tuple[str, ...], config: Any, parts: Mapping[str, str]) -> TlsFiles:
    from mizzen.edges.http import TlsFiles

    given = {part: getattr(config, setting) for part, setting in parts.items()}
    given.pop("server_name", None)
    return TlsFiles(
        **{part: str(system.folder / file) for part, file in given.items() if file is not None},
        password=config.key_password or "",
        settings={part: ".".join((*path, setting)) for part, setting in parts.items()},
        origins={part: system.source.origin((*path, setting)) for part, setting in parts.items() if given.get(part)},
    )
