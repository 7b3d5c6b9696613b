"""What a client's connection must tell apart from every other way to lose one."""

from __future__ import annotations


class HandshakeRefused(ConnectionError):
    """The server ended the handshake after the client took it for complete, as TLS 1.3 lets it: no request was read."""
