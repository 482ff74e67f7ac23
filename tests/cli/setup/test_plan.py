from __future__ import annotations

import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from edge_agent.cli.setup.plan import (
    SetupPlan,
    avahi_service,
    changed,
    first_sensor,
    page_url,
    sensors_url,
)
from edge_agent.config import parse
from edge_agent.errors import ConfigError

SHIPPED = Path(__file__).parents[3] / "systemd" / "edge-agent.toml"
PLAN = SetupPlan.beside(Path("/etc/edge-agent/edge-agent.toml"), people=True)


def test_the_file_as_it_is_shipped_is_opened_and_keeps_its_comments() -> None:
    text = SHIPPED.read_text()
    new, changes = changed(text, PLAN)
    config = parse(new, "new")
    assert config.listen.address == "0.0.0.0:8765" and config.http.address == "0.0.0.0:8766"
    assert config.listen.tokens == "/etc/edge-agent/tokens"
    assert config.listen.tls_key == "/etc/edge-agent/tls/server-key.pem"
    assert [change.key for change in changes] == [
        "listen.address", "listen.tls_certificate", "listen.tls_key", "listen.tokens",
        "http.address",
    ]  # fmt: skip
    assert str(changes[0]) == 'listen.address = "0.0.0.0:8765"  # was 127.0.0.1:8765'
    assert set(text.splitlines()) - set(new.splitlines()) <= {
        line for line in text.splitlines() if line.startswith("address")
    }
    assert changed(new, PLAN) == (new, [])


def test_without_a_file_there_is_one_with_what_it_needs() -> None:
    new, _ = changed("", PLAN)
    assert tomllib.loads(new)["listen"]["address"] == "0.0.0.0:8765"


def test_on_ipv6_alone_it_listens_for_both_kinds() -> None:
    plan = SetupPlan.beside(Path("/etc/edge-agent/edge-agent.toml"), people=True, everywhere="")
    listen = parse(changed("", plan)[0], "new")
    assert (listen.listen.address, listen.http.address) == (":8765", ":8766")


def test_what_somebody_chose_stays() -> None:
    text = (
        '[listen]\naddress = "192.0.2.7:9000"  # the cellar\ntokens = "/srv/t"\n'
        '[http]\naddress = "off"\n[store]\nsize = "8GiB"\n'
    )
    new, changes = changed(text, PLAN)
    assert {change.key for change in changes} == {"listen.tls_certificate", "listen.tls_key"}
    assert "# the cellar" in new and 'address = "off"' in new and 'size = "8GiB"' in new


def test_people_can_be_left_out() -> None:
    plan = SetupPlan.beside(Path("/etc/edge-agent/edge-agent.toml"), people=False)
    new, changes = changed("", plan)
    assert "http.address" not in {change.key for change in changes}
    assert "http" not in tomllib.loads(new)


@pytest.mark.parametrize(
    "address, told",
    [
        ("0.0.0.0:9000", ['http.address = "127.0.0.1:9000"  # was 0.0.0.0:9000']),
        ("192.0.2.7:8766", ['http.address = "127.0.0.1:8766"  # was 192.0.2.7:8766']),
        ("127.0.0.1:9000", []),
        ("off", []),
    ],
)
def test_a_page_that_is_open_is_closed_where_people_are_left_out(
    address: str, told: list[str]
) -> None:
    plan = SetupPlan.beside(Path("/etc/edge-agent/edge-agent.toml"), people=False)
    _, changes = changed(f'[http]\naddress = "{address}"  # for us\n', plan)
    assert [str(change) for change in changes if change.key == "http.address"] == told


@pytest.mark.parametrize("text", ["[listen", "listen = 3"])
def test_a_file_that_is_none_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match=r"edge-agent\.toml"):
        changed(text, PLAN)


def test_the_network_is_told_where_sensors_and_people_connect() -> None:
    told = ET.fromstring(avahi_service(8765, 8766))
    assert [one.text for one in told.iter("port")] == ["8765", "8766"]
    assert len(list(ET.fromstring(avahi_service(8765, None)).iter("service"))) == 1


def test_an_address_with_colons_is_in_brackets() -> None:
    assert sensors_url("fd00::7", 8765) == "wss://[fd00::7]:8765/ingest/STREAM"
    assert page_url("2001:db8::7", 8766) == "https://[2001:db8::7]:8766/"
    assert (
        "https://[2001:db8::7]:8765/ingest" in first_sensor("2001:db8::7", 8765, Path("c"), "s")[0]
    )
