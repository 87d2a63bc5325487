"""A certificate authority of the tests' own, and a server certificate for loopback."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

_Key = ec.EllipticCurvePrivateKey
_SIGNS_CERTIFICATES: Final = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: what a client trusts, and what the server shows."""

    ca: Path
    certificate: Path
    key: Path


def make_tls_files(directory: Path, *hosts: str) -> TlsFiles:
    """Make a CA and a certificate for `hosts`, `localhost` and 127.0.0.1, valid for a day."""
    files = TlsFiles(directory / "ca.pem", directory / "server.pem", directory / "server-key.pem")
    ca_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name, server_name = _name("embedpool test CA"), _name("localhost")
    ca = (
        _draft(ca_name, ca_name, ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_SIGNS_CERTIFICATES, critical=True)
    )
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    names = [x509.DNSName(host) for host in ("localhost", *hosts)]
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    server = (
        _draft(server_name, ca_name, server_key)
        .add_extension(x509.SubjectAlternativeName([*names, loopback]), critical=False)
        # Python 3.13 verifies strictly and refuses a certificate without it.
        .add_extension(authority, critical=False)
    )
    files.ca.write_bytes(_signed(ca, ca_key))
    files.certificate.write_bytes(_signed(server, ca_key))
    files.key.write_bytes(_pem(server_key))
    return files


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _draft(subject: x509.Name, issuer: x509.Name, key: _Key) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _signed(draft: x509.CertificateBuilder, ca_key: _Key) -> bytes:
    return draft.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _pem(key: _Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
