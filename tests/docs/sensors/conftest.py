"""The authority and the tokens of the sensors' agent."""

from __future__ import annotations

import pytest

from edge_agent.security.tls import make_ca
from edge_agent.security.tokens import add_token
from tests.end_to_end.keys import Keys


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """What the commands make, without their processes, which would take longer than a test."""
    made = Keys(tmp_path_factory.mktemp("keys"))
    make_ca(made.folder / "tls", ["localhost", "127.0.0.1"])
    made.secrets["sensor"] = add_token(made.tokens, "sensor", write=["**"], sources=["**"])
    made.secrets["reader"] = add_token(made.tokens, "reader", read=["**"])
    for name, secret in made.secrets.items():
        made.secret_file(name).write_text(secret)
    return made
