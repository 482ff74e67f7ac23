from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import parse_qs, quote

import pytest

from edge_agent.forward.sinks.mqtt.shared_access import signature

KEY = base64.b64encode(b"secret key").decode()


def test_a_password_is_the_signature_of_resource_and_end() -> None:
    found = signature("h.azure-devices.net", "dev 1", KEY, 1_800_000_000)
    kind, _, rest = found.partition(" ")
    assert kind == "SharedAccessSignature"
    values = {name: value for name, (value,) in parse_qs(rest).items()}
    assert values["sr"] == "h.azure-devices.net/devices/dev 1" and values["se"] == "1800000000"
    text = f"{quote(values['sr'], safe='')}\n1800000000"
    expected = hmac.new(b"secret key", text.encode(), hashlib.sha256).digest()
    assert base64.b64decode(values["sig"]) == expected
    assert KEY not in found


@pytest.mark.parametrize("key", ["", "no key", "AB="])
def test_a_key_that_is_none_is_not_repeated(key: str) -> None:
    with pytest.raises(ValueError, match=r"^expected a key in base64$"):
        signature("h", "d", key, 1)
