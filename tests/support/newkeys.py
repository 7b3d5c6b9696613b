"""New keys: a TLS 1.3 client that asks for them as often as it likes (RFC 8446 §4.6.3), which OpenSSL's own cannot."""

from __future__ import annotations

import struct
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

CIPHER = "TLS_AES_256_GCM_SHA384"
"""What the handshake must have agreed on."""
_DATA, _HANDSHAKE = 23, 22
_KEY_UPDATE = b"\x18\0\0\x01\x01"  # with a request to do likewise


class NewKeys:
    """Makes a client's records after its handshake, whose secrets the file ``keylog`` has; the client itself sends none."""

    def __init__(self, keylog: Path) -> None:
        [line] = [line for line in keylog.read_text().splitlines() if line.startswith("CLIENT_TRAFFIC_SECRET_0 ")]
        self._take(bytes.fromhex(line.split()[2]))

    def ask(self) -> bytes:
        """The record that brings new keys and asks for the other side's."""
        record = self._record(_HANDSHAKE, _KEY_UPDATE)
        self._take(_label(self._secret, b"traffic upd", 48))
        return record

    def say(self, data: bytes) -> bytes:
        """A record of data."""
        return self._record(_DATA, data)

    def _take(self, secret: bytes) -> None:
        self._secret, self._count = secret, 0
        self._key, self._iv = AESGCM(_label(secret, b"key", 32)), _label(secret, b"iv", 12)

    def _record(self, kind: int, content: bytes) -> bytes:
        inner = content + bytes([kind])
        head = struct.pack(">BHH", _DATA, 0x0303, len(inner) + 16)
        nonce = bytes(a ^ b for a, b in zip(self._iv, self._count.to_bytes(12, "big"), strict=True))
        self._count += 1
        return head + self._key.encrypt(nonce, inner, head)


def _label(secret: bytes, name: bytes, size: int) -> bytes:
    """HKDF-Expand-Label (RFC 8446 §7.1)."""
    label = b"tls13 " + name
    return HKDFExpand(hashes.SHA384(), size, struct.pack(">HB", size, len(label)) + label + b"\0").derive(secret)
