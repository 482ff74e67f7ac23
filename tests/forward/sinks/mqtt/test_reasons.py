from __future__ import annotations

import pytest

from edge_agent.forward.sinks.mqtt.outgoing import Version
from edge_agent.forward.sinks.mqtt.reasons import refused_connect, words


def test_a_code_is_told_in_words_with_what_the_server_says_of_it() -> None:
    assert words(0x87) == "not authorised (0x87)"
    assert words(0x97, "one\na day") == "the quota is exceeded (0x97): one a day"
    assert words(0xFE) == "a reason that is not known (0xfe)"


LOGINS: list[tuple[Version, int, str, bool]] = [
    ("5", 0x86, "user and password", True),
    ("3.1.1", 4, "user and password", True),
    ("3.1.1", 5, "not authorised", True),
    ("5", 0x88, "not available", False),
    ("3.1.1", 3, "not available", False),
    ("5", 0x84, 'version = "3.1.1"', True),
    ("5", 1, 'version = "3.1.1"', True),
    ("3.1.1", 1, "no MQTT 3.1.1", True),
    ("3.1.1", 99, "does not name", False),
    ("5", 0x9F, "more connections", False),
]


@pytest.mark.parametrize("version, code, text, slow", LOGINS)
def test_a_login_that_is_refused_says_whether_a_person_is_needed(
    version: Version, code: int, text: str, slow: bool
) -> None:
    error = refused_connect(version, code, "")
    assert text in str(error) and error.slow is slow and error.obstacle == "there"
