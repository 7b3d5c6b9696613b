"""Certificates for tests: an authority that signs what a test asks for, as PEM files."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


class Pair(NamedTuple):
    """Paths of a certificate and of its key."""

    cert: str
    key: str


class Authority:
    """Signs certificates and writes them to one folder; each file is called after what it is."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _named(f"test authority {name}")
        certificate = self._built(self._subject, self._key, None, -1, 30, ca=True)
        self.ca = str(self._write(f"{name}.pem", certificate.public_bytes(serialization.Encoding.PEM)))

    def issue(
        self,
        name: str = "server",
        *,
        hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "::1"),
        begins: int = -1,
        ends: int = 10,
        password: str = "",
        into: Path | None = None,
    ) -> Pair:
        """A certificate for ``hosts``, good from ``begins`` to ``ends`` in days from now; files in ``into`` are replaced."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [
            x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() or ":" in host else x509.DNSName(host)
            for host in hosts
        ]
        certificate = self._built(_named(name), key, x509.SubjectAlternativeName(names), begins, ends, ca=False)
        cipher = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, cipher)
        cert = self._write(f"{name}.pem", certificate.public_bytes(serialization.Encoding.PEM), into)
        return Pair(str(cert), str(self._write(f"{name}.key", private, into)))

    def _built(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        names: x509.SubjectAlternativeName | None,
        begins: int,
        ends: int,
        *,
        ca: bool,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins * DAY)
            .not_valid_after(now + ends * DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            # Since Python 3.13 a client asks for what RFC 5280 asks for.
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(_usage(ca=ca), critical=True)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name: str, content: bytes, into: Path | None = None) -> Path:
        path = (into or self.folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path


def serial_of(der: bytes) -> int:
    """What tells one certificate from another."""
    return x509.load_der_x509_certificate(der).serial_number


def serial_in(file: str) -> int:
    """The same of the first certificate in a PEM file."""
    return x509.load_pem_x509_certificate(Path(file).read_bytes()).serial_number


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
