"""TLS: the server's context, and a small certificate authority of one's own.

``edge-agent tls init`` calls `make_ca`: most sensors live in networks that no public authority
will certify. What it makes is one folder::

    ca.pem        give this to sensors and to `ca_file` of upstreams
    ca-key.pem    0600; only needed again to certify another machine
    server.pem    the server's certificate, then the authority's (`listen.tls_certificate`)
    server-key.pem  0600 (`listen.tls_key`)

Keys are EC P-256: accepted everywhere, quick on a Pi and small enough for an ESP32.
`cryptography` is imported only here and only while certificates are made or looked at.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.config.shape import Listen
from edge_agent.errors import ConfigError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

#: Boards without a clock start in the past and machines outlive plans. Whoever holds the key file
#: can be made anew with one command, so long lives cost little; 825 days is what Apple allows.
CA_DAYS = 3650
SERVER_DAYS = 825
#: A board that has not yet asked the time must not find the certificate "not yet valid".
_NOT_BEFORE = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
_DNS_NAME = re.compile(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class CaFiles:
    """Where `make_ca` put things."""

    ca: Path
    ca_key: Path
    certificate: Path
    key: Path


def server_context(listen: Listen) -> ssl.SSLContext | None:
    """The TLS context of the sensors' port; None where no certificate is configured.

    Raises:
        ConfigError: one of the two files is missing, cannot be read, or they do not belong
            together.
    """
    if listen.tls_certificate is None and listen.tls_key is None:
        return None
    certificate, key = listen.tls_certificate or "", listen.tls_key or ""
    for name, path in (("tls_certificate", certificate), ("tls_key", key)):
        if not os.access(path, os.R_OK):
            raise ConfigError(f"listen.{name}", "a readable PEM file", path or "nothing")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            "listen.tls_certificate", "a certificate and its key in PEM", f"{certificate}: {error}"
        ) from None
    return context


def make_ca(folder: str | Path, names: Sequence[str], *, now: dt.datetime | None = None) -> CaFiles:
    """Make an authority and a server certificate for ``names`` (DNS names and IP addresses).

    Raises:
        ConfigError: a name is no name, or the folder already holds an authority (which sensors
            may already trust, so it is never replaced).
    """
    target = Path(folder)
    files = CaFiles(
        target / "ca.pem", target / "ca-key.pem", target / "server.pem", target / "server-key.pem"
    )
    checked = [_name(name) for name in names]
    if not checked:
        raise ConfigError("names", "at least one name or address of this machine", "none")
    if taken := [path for path in _paths(files) if path.exists()]:
        raise ConfigError(str(target), "a folder without an authority in it", f"{taken[0].name}")
    target.mkdir(parents=True, exist_ok=True, mode=0o755)
    _make(files, checked, now or dt.datetime.now(dt.UTC))
    return files


def certificate_end(file: Path) -> float:
    """Until when the first certificate in ``file`` is good, seconds since 1970.

    Raises OSError, ValueError.
    """
    from cryptography import x509

    return x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc.timestamp()


def _paths(files: CaFiles) -> tuple[Path, ...]:
    return files.ca, files.ca_key, files.certificate, files.key


def _name(text: str) -> str | ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        if _DNS_NAME.fullmatch(text):
            return text
    raise ConfigError("names", "a DNS name or an IP address", repr(text))


def _make(
    files: CaFiles,
    names: Sequence[str | ipaddress.IPv4Address | ipaddress.IPv6Address],
    now: dt.datetime,
) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    ca_key = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    ca_name = _subject("edge-agent CA")
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key(), ca_key, now, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certificates=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    alternatives: list[x509.GeneralName] = [
        x509.DNSName(name) if isinstance(name, str) else x509.IPAddress(name) for name in names
    ]
    server = (
        _builder(_subject(str(names[0])[:64]), ca_name, key.public_key(), ca_key, now, SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    ca_pem = ca.public_bytes(Encoding.PEM)
    _write(files.ca_key, _pem(ca_key), 0o600)
    _write(files.key, _pem(key), 0o600)
    _write(files.ca, ca_pem, 0o644)
    _write(files.certificate, server.public_bytes(Encoding.PEM) + ca_pem, 0o644)


def _subject(text: str) -> x509.Name:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: dt.datetime,
    days: int,
) -> x509.CertificateBuilder:
    from cryptography import x509

    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        # A clock that has not been set must not make a certificate that is dead when it is.
        .not_valid_after(max(now, _NOT_BEFORE) + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(issuer_id, critical=False)
    )


def _usage(*, certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not certificates,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, data: bytes, mode: int) -> None:
    # O_EXCL and the mode at creation: at no moment is there a key that others can read.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
