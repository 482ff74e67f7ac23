"""Azure's computed password: a shared access signature of a device's key, good for a time. Pure.

``SharedAccessSignature sr=HOST%2Fdevices%2FDEVICE&sig=…&se=SECONDS``: an HMAC-SHA256 of the
resource and the moment until which it is good, by the device's key, which itself never goes out.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from urllib.parse import quote


def signature(host: str, device: str, key: str, until_s: int) -> str:
    """The password of ``device``; ``key`` is its primary or secondary key, in base64.

    Raises:
        ValueError: the key is none. What was found is not repeated.
    """
    try:
        secret = base64.b64decode(key, validate=True)
    except binascii.Error:
        secret = b""
    if not secret:
        raise ValueError("expected a key in base64")
    resource = quote(f"{host}/devices/{device}", safe="")
    signed = hmac.digest(secret, f"{resource}\n{until_s}".encode(), hashlib.sha256)
    sig = quote(base64.b64encode(signed).decode(), safe="")
    return f"SharedAccessSignature sr={resource}&sig={sig}&se={until_s}"
