from __future__ import annotations

from typing import Literal

import pytest

from edge_agent.net.mqtt_reasons import refused_connect, words


def test_a_code_is_told_in_words_with_what_the_server_says_of_it() -> None:
    assert words(0x87) == "not authorised (0x87)"
    assert words(0x97, "one\na day") == "the quota is exceeded (0x97): one a day"
    assert words(0x00) == "without a reason (0x00)"
    assert words(0xFE) == "a reason that is not known (0xfe)"


Version = Literal["5", "3.1.1"]
LOGINS: list[tuple[Version, int, str, bool]] = [
    ("5", 0x86, "user and password", True),
    ("3.1.1", 4, "user and password", True),
    ("3.1.1", 5, "not authorised", True),
    ("5", 0x88, "not available", False),
    ("3.1.1", 3, "not available", False),
    ("5", 0x84, 'version = "3.1.1"', True),
    ("5", 1, 'version = "3.1.1"', True),
    ("3.1.1", 1, "this version", True),
    ("5", 0x85, "client id", True),
    ("3.1.1", 2, "client id", True),
    ("5", 0x8A, "banned", True),
    ("5", 5, "not authorised", True),
    # As paho tells it, which has translated it.
    ("3.1.1", 0x86, "user and password", True),
    ("3.1.1", 99, "does not name", False),
    ("5", 0x9F, "more connections", False),
]


@pytest.mark.parametrize("version, code, text, slow", LOGINS)
def test_a_login_that_is_refused_says_whether_a_person_is_needed(
    version: Version, code: int, text: str, slow: bool
) -> None:
    error = refused_connect(version, code, "")
    assert text in str(error) and error.slow is slow and error.obstacle == "there"


def test_what_helps_is_told_in_the_words_of_whoever_reads_it() -> None:
    assert str(refused_connect("5", 0x87, "no\nway", login="--user")).endswith(
        "not authorised (0x87): no way; see --user"
    )
    assert "; --version 3.1.1 asks" in str(refused_connect("5", 1, older="--version 3.1.1"))
    assert "asks for" not in str(refused_connect("3.1.1", 1))
