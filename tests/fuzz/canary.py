"""The canary: a sensor in a process of its own, which must not notice that somebody fuzzes.

``python -m tests.fuzz.canary URL [CA_FILE TOKEN]``: one session; a record, its ack, a short pause,
and again, until its standard input closes. After each ack it prints as JSON when the record was
sent and how long that took, and at the end the error that it met, if any. Written with the library
`websockets`, not our client.
"""

from __future__ import annotations

import json
import ssl
import sys
import threading
import time
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.patience import PATIENCE_S

PAUSE_S = 0.02
STREAM = "canary"


def main() -> None:
    """Sing until nobody listens."""
    over = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=listen, daemon=True).start()
    try:
        with connect(
            f"{sys.argv[1]}/ingest/{STREAM}",
            subprotocols=[Subprotocol("edge-agent.v1+json")],
            open_timeout=PATIENCE_S,
            **_secured(*sys.argv[2:]),
        ) as socket:
            socket.send(json.dumps({"type": "hello", "source": STREAM}))
            first = number = int(_told(socket)["next"])
            print("singing", flush=True)
            while not over.is_set():
                begun = time.monotonic()
                socket.send(json.dumps({"n": number - first}))
                told = _told(socket)
                if told != {"type": "ack", "next": number + 1}:
                    raise ValueError(f"expected an ack of {number}, was told {told}")
                print(json.dumps([begun, time.monotonic() - begun]), flush=True)
                number += 1
                time.sleep(PAUSE_S)
    except (OSError, WebSocketException, TimeoutError, ValueError) as error:
        print(json.dumps(repr(error)), flush=True)


def _secured(ca_file: str = "", token: str = "") -> dict[str, Any]:
    if not ca_file:
        return {}
    trusted = ssl.create_default_context(cafile=ca_file)
    return {"ssl": trusted, "additional_headers": {"Authorization": f"Bearer {token}"}}


def _told(socket: ClientConnection) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(socket.recv(timeout=PATIENCE_S))
    return told


if __name__ == "__main__":
    main()
