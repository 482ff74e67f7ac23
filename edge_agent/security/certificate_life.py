"""The life of the port's certificate: when it ends, and whether it is time to renew it.

Read without `cryptography`, which a running agent on a small board does not pay for (`names_in` is
for commands).

A certificate that `edge_agent.security.tls` made lies beside its authority (``ca.pem``, which it
also holds) and that one's key. It is renewed when two thirds of its life are over, which leaves
nine months for whatever keeps that from happening. Whoever may read the key and write to the folder
can renew: the agent, where it runs as the user that made them, else root (`edge-agent tls renew`,
which edge-agent-renew.timer calls each day). Certificates of others are renewed by whoever made
them.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_agent.system.files import refuse_pipes
from edge_agent.values.record import DAY_S

#: Boards without a clock start in the past and machines outlive plans. Whoever holds the key file
#: can be made anew with one command, so long lives cost little; 825 days is what Apple allows.
CA_DAYS = 3650
SERVER_DAYS = 825
#: Names of the files that belong together; see `edge_agent.security.tls`.
CA, CA_KEY, SERVER, SERVER_KEY = "ca.pem", "private/ca-key.pem", "server.pem", "server-key.pem"
#: A third of its life is left when it is renewed.
RENEW_S = SERVER_DAYS * DAY_S / 3
#: For so long a renewal that is due may not have come before anybody is told.
OVERDUE_S = 7 * DAY_S
#: A certificate that ends sooner is worth a person's attention.
SOON_S = 21 * DAY_S
#: Another authority has to be brought to each sensor: that takes a person months.
AUTHORITY_SOON_S = 365 * DAY_S
AUTHORITY_LATE_S = 60 * DAY_S
_PEM = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CertificateLife:
    """Until when a certificate is good, at one moment.

    Attributes:
        ends_s: seconds since 1970.
        ends_in_s: from that moment on.
        authority_ends_s: when our own authority ends; None where somebody else's certified it.
        obstacle: why whoever looked cannot renew it, in words; "" where nothing is in the way.
    """

    ends_s: float
    ends_in_s: float
    authority_ends_s: float | None = None
    obstacle: str = ""

    @property
    def authority_ends_in_s(self) -> float | None:
        """Likewise of the authority."""
        if self.authority_ends_s is None:
            return None
        return self.ends_in_s + self.authority_ends_s - self.ends_s

    @property
    def is_due(self) -> bool:
        """Whether it is time to renew it. Not where a new one would last no longer, because its
        authority ends then.
        """
        left_s = self.authority_ends_in_s
        if left_s is None or left_s <= 0 or self.ends_in_s > RENEW_S:
            return False
        return min(SERVER_DAYS * DAY_S, left_s) > self.ends_in_s + DAY_S

    @property
    def is_overdue(self) -> bool:
        """Whether it should have been renewed a week ago."""
        return self.is_due and self.ends_in_s <= RENEW_S - OVERDUE_S


def certificate_life(file: Path, now_s: float) -> CertificateLife:
    """What is to be said of the first certificate in ``file``, at ``now_s``.

    Raises OSError, ValueError: it cannot be read, or is none.
    """
    refuse_pipes(file)
    text = file.read_text(encoding="ascii")
    ends_s = _end_of(text)
    authority = _own_authority(file, text)
    if authority is None:
        return CertificateLife(ends_s, ends_s - now_s)
    return CertificateLife(ends_s, ends_s - now_s, _end_of(authority), _obstacle(file.parent))


def certificate_end(file: Path) -> float:
    """Until when the first certificate in ``file`` is good, seconds since 1970.

    Raises OSError, ValueError.
    """
    refuse_pipes(file)
    return _end_of(file.read_text(encoding="ascii"))


def _own_authority(file: Path, text: str) -> str | None:
    """The certificate of the authority of our own that made ``file``; None where there is none."""
    if file.name != SERVER:
        return None
    try:
        beside = _PEM.search(file.with_name(CA).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return beside[0] if beside is not None and beside[0] in text else None


def _obstacle(folder: Path) -> str:
    key = folder / CA_KEY
    if os.access(key, os.R_OK, effective_ids=True):
        may_write = os.access(folder, os.W_OK | os.X_OK, effective_ids=True)
        return "" if may_write else f"{folder} cannot be written to here"
    is_hidden = key.parent.is_dir() and not os.access(key.parent, os.X_OK, effective_ids=True)
    is_others = is_hidden or key.exists()
    return f"{key} is another user's" if is_others else f"{key} is not there"


def _end_of(text: str) -> float:
    found = _PEM.search(text)
    if found is None:
        raise ValueError("no certificate in PEM")
    der = ssl.PEM_cert_to_DER_cert(found[0])
    try:
        # RFC 5280: Certificate > TBSCertificate > version (may be missing), serial, algorithm,
        # issuer, validity > notBefore, notAfter.
        fields = list(_inside(der, *next(_inside(der, *_element(der, 0)[1:]))[1:]))
        skipped = 4 if fields[0][0] == 0xA0 else 3
        _, (tag, begin, end) = _inside(der, *fields[skipped][1:])
        form = "%y%m%d%H%M%SZ" if tag == 0x17 else "%Y%m%d%H%M%SZ"
        moment = dt.datetime.strptime(der[begin:end].decode(), form).replace(tzinfo=dt.UTC)
    except (IndexError, StopIteration) as error:
        raise ValueError("no certificate") from error
    return moment.timestamp()


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Tag, begin and end of the DER element at ``at``."""
    tag, length, begin = der[at], der[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        length, begin = int.from_bytes(der[begin : begin + count]), begin + count
    return tag, begin, begin + length


def _inside(der: bytes, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    while begin < end:
        yield (element := _element(der, begin))
        begin = element[2]


def names_in(certificate: Path) -> list[str]:
    """The names and addresses that a certificate is for; none where it cannot be read."""
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return []
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return [*names.get_values_for_type(x509.DNSName), *addresses]
