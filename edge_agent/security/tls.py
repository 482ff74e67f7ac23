"""TLS: the server's context, and a small certificate authority of one's own.

``edge-agent tls init`` calls `make_ca`, and `renew` where that was done before: most sensors live
in networks that no public authority will certify. `renew_where_due` is what renews by itself
(`edge_agent.security.certificate_life` says when). What they make is one folder::

    ca.pem        give this to sensors and to `ca_file` of upstreams
    private/ca-key.pem  0600 in a folder of 0700; only needed to certify, best never by the agent:
                  whoever has it can pass for every agent that these sensors know
    server.pem    the server's certificate, then the authority's (`listen.tls_certificate`)
    server-key.pem  for the agent's user (`listen.tls_key`); kept when the certificate is renewed

Earlier versions left the authority's key beside the others; `renew` puts it where it belongs.

Keys are EC P-256: accepted everywhere, quick on a Pi and small enough for an ESP32.
`cryptography` is imported only here and only while certificates are made or looked at.
"""

from __future__ import annotations

import datetime as dt
import errno
import ipaddress
import os
import pwd
import re
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.config import Listen
from edge_agent.errors import ConfigError
from edge_agent.output.printable import why
from edge_agent.security.certificate_life import (
    CA,
    CA_DAYS,
    CA_KEY,
    SERVER,
    SERVER_DAYS,
    SERVER_KEY,
    certificate_life,
    names_in,
)
from edge_agent.system.files import (
    acting_as_owner,
    load_pair,
    open_plain,
    refuse_links,
    replace_file,
    why_unreadable,
)

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

#: Mode of what sensors and people may read.
PUBLIC = 0o644
#: A board that has not yet asked the time must not find the certificate "not yet valid".
_NOT_BEFORE = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
#: Machines are called with underscores, and clients take that, whatever DNS says of host names.
_DNS_NAME = re.compile(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")


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
    unreadable = [
        ConfigError(f"listen.{name}", "a readable PEM file", _unreadable(path))
        for name, path in (("tls_certificate", certificate), ("tls_key", key))
        if not os.access(path, os.R_OK, effective_ids=True)
    ]
    if unreadable:
        raise ConfigError.of(unreadable)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        load_pair(context, certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise _unusable(certificate, key, error) from None
    return context


def _unreadable(path: str) -> str:
    if not path:
        return "nothing"
    try:
        Path(path).stat()
    except OSError as error:
        return f"{path}: {why_unreadable(error, path)}"
    shut = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return f"{path}: {why_unreadable(shut, path)}"


def _unusable(certificate: str, key: str, error: Exception) -> ConfigError:
    """OpenSSL does not say which of the two files it means: where the certificate alone can be
    read, it is the key.
    """
    if not isinstance(error, ssl.SSLError):
        # One of them is no plain file, which would be waited for.
        found = f"{certificate}: {why(error)}"
        return ConfigError("listen.tls_certificate", "a certificate and its key in PEM", found)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate)
    except OSError as problem:
        found = f"{certificate}: {why(problem)}"
        return ConfigError("listen.tls_certificate", "a certificate in PEM", found)
    return ConfigError("listen.tls_key", f"the key of {certificate} in PEM", f"{key}: {why(error)}")


def make_ca(
    folder: str | Path,
    names: Sequence[str],
    *,
    now: dt.datetime | None = None,
    reader: pwd.struct_passwd | None = None,
) -> CaFiles:
    """Make an authority and a server certificate for ``names`` (DNS names and IP addresses).

    ``reader`` is the agent's user, who may read the server's key where root makes it.

    Raises:
        ConfigError: a name is no name, the folder already holds an authority (which sensors
            may already trust, so it is never replaced), or it cannot be written to.
    """
    files = _files(Path(folder))
    checked = _names(names)
    taken = [path for path in (*_paths(files), _former_key(files)) if path.exists()]
    if taken and not _is_begun(files):
        expected = "a folder without an authority or a certificate in it"
        found = f"{taken[0].name}; move it away, or use it: listen.tls_certificate, listen.tls_key"
        raise ConfigError(str(folder), expected, found)
    moment = now or dt.datetime.now(dt.UTC)
    with _writing(files.ca.parent):
        _make_folder(files.ca.parent, 0o755)
        _make_folder(files.ca_key.parent, 0o700)
        ca_key = _read_key(files.ca_key) if files.ca_key.exists() else _new_key()
        key = _read_key(files.key) if files.key.exists() else _new_key()
        ca = _new_authority(moment, ca_key)
        replace_file(files.ca_key, _pem(ca_key))
        replace_file(files.key, _pem(key), reader=reader)
        replace_file(files.ca, _certificate_pem(ca), PUBLIC)
        _issue(files, (ca, ca_key), key, checked, moment)
    return files


def _is_begun(files: CaFiles) -> bool:
    """Whether there are keys alone: `make_ca` was cut off before there was anything to trust."""
    return files.ca_key.exists() and not any(
        path.exists() for path in (files.ca, files.certificate, _former_key(files))
    )


def holds_authority(folder: str | Path) -> bool:
    """Whether `make_ca` was called for ``folder`` before."""
    return _files(Path(folder)).ca.exists()


def renew(
    folder: str | Path,
    names: Sequence[str],
    *,
    now: dt.datetime | None = None,
    reader: pwd.struct_passwd | None = None,
) -> tuple[CaFiles, list[str]]:
    """A new certificate by the authority in ``folder``, for ``names`` and those of the one that it
    replaces; also tells these. Sensors notice nothing, and the server's key stays.

    Raises:
        ConfigError: the authority's key is not there or has ended, a name is no name, or the
            folder cannot be written to.
    """
    from cryptography import x509

    files = _files(Path(folder))
    moment = now or dt.datetime.now(dt.UTC)
    with _writing(files.ca.parent):
        _take_back(files, reader)
        refuse_links(files.ca, files.certificate)
        ca = x509.load_pem_x509_certificate(files.ca.read_bytes())
        ca_key = _read_key(files.ca_key)
        if ca_key.public_key() != ca.public_key():
            raise ConfigError(str(files.ca_key), "the key of ca.pem", "another one")
        if ca.not_valid_after_utc <= moment:
            expected = "an authority that is still good; `tls init` makes one in another folder"
            raise ConfigError(str(files.ca), expected, f"one that ended {ca.not_valid_after_utc}")
        everything = list(dict.fromkeys(_names([*names, *names_in(files.certificate)])))
        if files.key.exists():
            key = _read_key(files.key)
        else:
            key = _new_key()
            replace_file(files.key, _pem(key), reader=reader)
        _issue(files, (ca, ca_key), key, everything, moment)
    return files, [str(name) for name in everything]


def renew_where_due(certificate: Path, now_s: float) -> float | None:
    """Renew a certificate of our own authority, for the names that it has, if it is time and we
    can; until when the new one is good, None where nothing was done.

    Raises:
        ConfigError: it cannot be renewed after all.
        OSError, ValueError: the certificate cannot be read.
    """
    life = certificate_life(certificate, now_s)
    if not life.is_due or life.obstacle:
        return None
    renew(certificate.parent, (), now=dt.datetime.fromtimestamp(now_s, dt.UTC))
    return certificate_life(certificate, now_s).ends_s


_OUR_KEY = (
    "a key that `tls init` made (put it back; or move the folder away, for a new authority, which"
    " every sensor has to be given)"
)
_Name = str | ipaddress.IPv4Address | ipaddress.IPv6Address


def _files(folder: Path) -> CaFiles:
    return CaFiles(
        folder / CA,
        folder / CA_KEY,
        folder / SERVER,
        folder / SERVER_KEY,
    )


def _former_key(files: CaFiles) -> Path:
    return files.ca.with_name("ca-key.pem")


def _paths(files: CaFiles) -> tuple[Path, ...]:
    return files.ca, files.ca_key, files.certificate, files.key


def is_name(text: str) -> bool:
    """Whether a certificate can be made out to ``text``."""
    return _DNS_NAME.fullmatch(text) is not None


def machine_problem(text: str) -> str | None:
    """Why no certificate can be made out to a machine called ``text``, name or address."""
    try:
        _name(text)
    except ConfigError as error:
        return f"expected {error.expected}, found {error.found}"
    return None


def _names(texts: Sequence[str]) -> list[_Name]:
    if not texts:
        raise ConfigError("names", "at least one name or address of this machine", "none")
    return [_name(text) for text in texts]


def _name(text: str) -> _Name:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        if is_name(text):
            return text
    raise ConfigError("names", "a DNS name or an IP address", repr(text))


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        text = error.strerror or str(error)
        raise ConfigError(str(folder), "a folder that can be written to", text) from error


def _make_folder(folder: Path, mode: int) -> None:
    with acting_as_owner(folder.parent):
        if not folder.exists():
            folder.mkdir(parents=True)
            folder.chmod(mode)


def _take_back(files: CaFiles, reader: pwd.struct_passwd | None) -> None:
    """Take the authority's key, and the folder in which it could be replaced, from the agent's
    user, to whom README once gave both; and put the key where it belongs.
    """
    folder, former = files.ca.parent, _former_key(files)
    if os.geteuid() == 0 and reader is not None and folder.stat().st_uid == reader.pw_uid:
        os.chown(folder, 0, 0)
    if former.exists() and not files.ca_key.exists():
        _make_folder(files.ca_key.parent, 0o700)
        descriptor = open_plain(former, os.O_RDONLY)
        with os.fdopen(descriptor, "rb") as file:
            replace_file(files.ca_key, file.read())
        former.unlink()


def _new_key() -> ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        with os.fdopen(open_plain(path, os.O_RDONLY), "rb") as file:
            key = load_pem_private_key(file.read(), None)
    except (OSError, ValueError, TypeError) as error:
        # A parser's own words are about its format.
        told = why(error) if isinstance(error, OSError) else "no key in PEM"
        raise ConfigError(str(path), _OUR_KEY, told) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(str(path), _OUR_KEY, "another kind of key")
    return key


def _new_authority(now: dt.datetime, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    name = _subject("edge-agent CA")
    return (
        _builder(name, name, key.public_key(), key, _end(now, CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _issue(
    files: CaFiles,
    authority: tuple[x509.Certificate, ec.EllipticCurvePrivateKey],
    key: ec.EllipticCurvePrivateKey,
    names: Sequence[_Name],
    now: dt.datetime,
) -> None:
    """Write the server's certificate, and the authority's behind it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    ca, ca_key = authority
    alternatives: list[x509.GeneralName] = [
        x509.DNSName(name) if isinstance(name, str) else x509.IPAddress(name) for name in names
    ]
    end = min(_end(now, SERVER_DAYS), ca.not_valid_after_utc)
    server = (
        _builder(_subject(str(names[0])[:64]), ca.subject, key.public_key(), ca_key, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    replace_file(files.certificate, _certificate_pem(server) + _certificate_pem(ca), PUBLIC)


def _certificate_pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _end(now: dt.datetime, days: int) -> dt.datetime:
    # A clock that has not been set must not make a certificate that is dead when it is.
    return max(now, _NOT_BEFORE) + dt.timedelta(days=days)


def _subject(text: str) -> x509.Name:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    end: dt.datetime,
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
        .not_valid_after(end)
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
