"""When a certificate is renewed, and by whom it can be."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest
import trustme

from edge_agent.security.certificate_life import CertificateLife, certificate_life
from edge_agent.security.tls import make_ca, renew, renew_where_due
from edge_agent.system.files import acting_as
from edge_agent.values.record import DAY_S

NOW = dt.datetime(2026, 11, 29, tzinfo=dt.UTC)
NOW_S = NOW.timestamp()
NOBODY = 65534


@pytest.mark.parametrize(
    "days, authority, due",
    [
        (276, 3000, False),
        (274, 3000, True),
        (-5, 3000, True),
        (274, 500, True),
        # A new one would end with the authority, as this one does.
        (274, 274, False),
        (-5, -5, False),
        (10, None, False),
    ],
)
def test_it_is_due_when_two_thirds_are_over_and_a_new_one_would_last_longer(
    days: float, authority: float | None, due: bool
) -> None:
    authority_s = None if authority is None else (authority - days) * DAY_S
    assert CertificateLife(0.0, days * DAY_S, authority_s).is_due is due


def test_names_and_key_stay_when_it_is_renewed(tmp_path: Path) -> None:
    from cryptography import x509

    files = make_ca(tmp_path, ["pi.local", "192.0.2.7", "2001:db8::1"], now=NOW)

    def shown() -> tuple[object, object]:
        found = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return found.public_key(), names

    before, inode, key = shown(), files.certificate.stat().st_ino, files.key.read_bytes()
    assert renew_where_due(files.certificate, NOW_S + 549 * DAY_S) is None
    ends_s = renew_where_due(files.certificate, NOW_S + 551 * DAY_S)
    assert ends_s == NOW_S + (551 + 825) * DAY_S
    assert shown() == before and files.key.read_bytes() == key
    # Put in place as a whole, and nothing left beside it.
    assert files.certificate.stat().st_ino != inode
    assert not [one for one in tmp_path.iterdir() if one.name.startswith(".")]


def test_what_others_certified_is_theirs_to_renew(tmp_path: Path) -> None:
    make_ca(tmp_path, ["pi"], now=NOW)
    ca = trustme.CA()
    bundle = b"".join(one.bytes() for one in ca.issue_cert("pi").cert_chain_pems)
    (tmp_path / "server.pem").write_bytes(bundle)
    life = certificate_life(tmp_path / "server.pem", NOW_S)
    assert life.authority_ends_s is None and not life.is_due
    assert renew_where_due(tmp_path / "server.pem", life.ends_s - DAY_S) is None


def test_who_cannot_renew_says_why_and_leaves_it(tmp_path: Path) -> None:
    files, later_s = make_ca(tmp_path, ["pi"], now=NOW), NOW_S + 600 * DAY_S
    before = files.certificate.read_bytes()
    assert certificate_life(files.certificate, later_s).obstacle == ""
    moved = files.ca_key.rename(tmp_path / "elsewhere")
    assert "is not there" in certificate_life(files.certificate, later_s).obstacle
    assert renew_where_due(files.certificate, later_s) is None
    moved.rename(files.ca_key)
    assert files.certificate.read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="takes two users")
def test_the_agents_user_sees_that_the_authoritys_key_is_roots(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    files = make_ca(tmp_path / "tls", ["pi"], now=NOW)
    with acting_as(NOBODY, NOBODY):
        life = certificate_life(files.certificate, NOW_S + 600 * DAY_S)
        assert life.is_overdue and "is another user's" in life.obstacle
        assert renew_where_due(files.certificate, NOW_S + 600 * DAY_S) is None
    os.chown(files.ca_key.parent, NOBODY, NOBODY)
    os.chown(files.ca_key, NOBODY, NOBODY)
    with acting_as(NOBODY, NOBODY):
        assert "cannot be written to" in certificate_life(files.certificate, NOW_S).obstacle


def test_a_renewal_without_names_keeps_those_that_there_are(tmp_path: Path) -> None:
    make_ca(tmp_path, ["a.example", "::1"], now=NOW)
    assert renew(tmp_path, (), now=NOW)[1] == ["a.example", "::1"]
