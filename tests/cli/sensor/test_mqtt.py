from __future__ import annotations

from pathlib import Path

import pytest

from tests.preloaded import run

TOPIC = ("--topic", "t")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("tcp://h", *TOPIC), "URL: expected mqtt://HOST[:PORT]"),
        (("mqtt://u:p@h", *TOPIC), "--user and --password-file"),
        (("mqtt://h",), "Missing option '--topic'"),
        (("mqtt://h", *TOPIC, "--stream", "{x}"), "--stream: expected {topic}"),
        (("mqtt://h", *TOPIC, "--source", "a b"), "source: expected"),
    ],
)
def test_a_wrong_option_is_told_at_once(arguments: tuple[str, ...], words: str) -> None:
    done = run("sensor", "mqtt", *arguments)
    assert done.returncode != 0 and words in done.stderr


def test_a_password_file_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("")
    file = str(tmp_path / "password")
    done = run("sensor", "mqtt", "mqtt://h", *TOPIC, "--user", "u", "--password-file", file)
    assert done.returncode == 2 and f"--password-file {file}" in done.stderr
