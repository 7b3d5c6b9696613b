"""What a client's connection must tell apart from every other way to lose one."""

from __future__ import annotations

# Alerts (RFC 8446 §6.2) that a server sends of a certificate it does not accept; before any answer they end a handshake.
_ALERTS = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "HANDSHAKE_FAILURE", "DECRYPT_ERROR")


class HandshakeRefused(ConnectionError):
    """The server ended the handshake after the client took it for complete, as TLS 1.3 lets it: no request was read."""


def is_refusal(reason: str) -> bool:
    """Whether OpenSSL's name of an error says that a server does not accept who we are."""
    return "ALERT" in reason and any(each in reason for each in _ALERTS)
