"""Where commands look for the agent of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config import Config, Http, Listen, authority_file, people_url, sensor_url


@pytest.mark.parametrize(
    "address, people, sensors",
    [
        ("127.0.0.1:1", "http://127.0.0.1:1", "wss://127.0.0.1:1"),
        ("0.0.0.0:1", "https://127.0.0.1:1", "wss://127.0.0.1:1"),
        (":1", "https://127.0.0.1:1", "wss://127.0.0.1:1"),
        ("[::]:1", "https://[::1]:1", "wss://[::1]:1"),
        ("192.0.2.7:1", "https://192.0.2.7:1", "wss://192.0.2.7:1"),
    ],
)
def test_with_a_certificate(address: str, people: str, sensors: str) -> None:
    config = Config(
        listen=Listen(address=address, tls_certificate="c", tls_key="k"), http=Http(address=address)
    )
    assert (people_url(config), sensor_url(config)) == (people, sensors)


def test_without_one_and_with_a_port_that_is_off() -> None:
    config = Config(listen=Listen(address="0.0.0.0:1", insecure=True), http=Http(address="off"))
    assert (people_url(config), sensor_url(config)) == (None, "ws://127.0.0.1:1")
    assert authority_file(config) is None


def test_the_authority_beside_the_certificate_is_trusted_or_the_certificate(tmp_path: Path) -> None:
    certificate = tmp_path / "server.pem"
    config = Config(listen=Listen(tls_certificate=str(certificate), tls_key="k"))
    assert authority_file(config) is None
    certificate.write_text("")
    assert authority_file(config) == str(certificate)
    (tmp_path / "ca.pem").write_text("")
    assert authority_file(config) == str(tmp_path / "ca.pem")
