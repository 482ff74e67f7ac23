from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from edge_agent.errors import ConfigError, StoreDamaged
from edge_agent.seal import OPEN, SEAL_BYTES, KeyRing, Xaes, is_sealed, key_id, read_keys

FIRST, SECOND = bytes(range(32)), bytes(range(32, 64))
NONCE = b"ABCDEFGHIJKLMNOPQRSTUVWX"


def ring(*secrets: bytes, seed: int = 1, seals: bool = True) -> KeyRing:
    return KeyRing(secrets, Random(seed).randbytes, seals=seals)


@pytest.mark.parametrize(
    "key, place, sealed",
    [
        (b"\x01" * 32, b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
        (
            b"\x03" * 32,
            b"c2sp.org/XAES-256-GCM",
            "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
        ),
    ],
)
def test_the_algorithm_gives_what_its_specification_says(
    key: bytes, place: bytes, sealed: str
) -> None:
    xaes = Xaes(key)
    assert xaes.seal(NONCE, b"XAES-256-GCM", place).hex() == sealed
    assert xaes.open(NONCE, bytes.fromhex(sealed), place) == b"XAES-256-GCM"


def test_what_is_sealed_hides_the_value_and_is_opened_with_its_key_alone() -> None:
    value = b"the greenhouse door was opened" * 4
    sealed = ring(FIRST).sealed(b"here", value)
    assert is_sealed(sealed) and len(sealed) == len(value) + SEAL_BYTES
    assert b"door" not in sealed
    assert ring(FIRST).opened(b"here", memoryview(sealed)) == value
    # What opens needs no chance, and any key of the ring.
    assert KeyRing((SECOND, FIRST)).opened(b"here", sealed) == value
    for other in (ring(SECOND), OPEN):
        with pytest.raises(StoreDamaged, match=f"sealed with the key {key_id(sealed).hex()}"):
            other.opened(b"here", sealed)


def test_no_bit_of_what_is_sealed_and_of_its_place_can_be_another() -> None:
    sealed = ring(FIRST).sealed(b"here", b"21.5")
    with pytest.raises(StoreDamaged, match="not what was sealed for this place"):
        ring(FIRST).opened(b"there", sealed)
    for bit in range(8 * 2, 8 * len(sealed)):
        turned = bytearray(sealed)
        turned[bit >> 3] ^= 1 << (bit & 7)
        with pytest.raises(StoreDamaged):
            ring(FIRST).opened(b"here", bytes(turned))


def test_the_same_value_is_never_sealed_to_the_same_bytes() -> None:
    keys = ring(FIRST)
    assert len({keys.sealed(b"here", b"21.5")[-20:] for _ in range(100)}) == 100


def test_the_first_key_seals_and_none_does_where_sealing_is_off() -> None:
    both = ring(FIRST, SECOND)
    assert both.current == ring(FIRST).current and set(both.ids) == {
        ring(FIRST).current, ring(SECOND).current
    }  # fmt: skip
    off = ring(FIRST, seals=False)
    assert off.current == b"" and off.sealed(b"here", b"21.5") == b"21.5"
    assert off.opened(b"here", both.sealed(b"here", b"21.5")) == b"21.5"
    assert OPEN.opened(b"here", b"21.5") == b"21.5"


def test_a_key_that_is_not_here_is_told_with_those_that_are() -> None:
    needed = [ring(FIRST).current]
    assert ring(FIRST, SECOND).lacks(needed) == ""
    assert OPEN.lacks(needed) == (
        f"it is sealed with the key {needed[0].hex()}, and store.key_file gives no key;"
        " nothing was changed"
    )
    assert f"has {ring(SECOND).current.hex()} alone" in ring(SECOND).lacks(needed)


def test_the_ids_of_keys_that_are_needed_grow_by_the_one_that_seals() -> None:
    first, second = ring(FIRST).current, ring(SECOND).current
    assert ring(SECOND).also((first,)) == (first, second)
    assert ring(SECOND).also((second,)) == (second,)
    assert ring(SECOND, seals=False).also((first,)) == (first,)


def test_a_file_of_keys_has_one_in_each_line(tmp_path: Path) -> None:
    file = tmp_path / "store.key"
    file.write_text(f"{FIRST.hex()}\n\n  {SECOND.hex().upper()}\n")
    file.chmod(0o640)
    keys = read_keys(str(file), Random(1).randbytes)
    assert keys.secrets == (FIRST, SECOND) and keys.current == ring(FIRST).current
    assert read_keys(str(file), seals=False).current == b""
    assert read_keys(None) is OPEN


def test_a_file_that_holds_no_keys_is_refused_without_being_repeated(tmp_path: Path) -> None:
    file = tmp_path / "store.key"
    for text in (
        "",
        "hunter2",
        FIRST.hex()[:-2],
        f"{FIRST.hex()}\nhunter2",
        "00" * 32 + "\n" * 5000,
    ):
        file.write_text(text)
        file.chmod(0o600)
        with pytest.raises(ConfigError, match="64 hexadecimal digits") as raised:
            read_keys(str(file))
        assert "hunter2" not in str(raised.value)
    with pytest.raises(ConfigError, match="No such file"):
        read_keys(str(tmp_path / "none"))


def test_a_file_that_everybody_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "store.key"
    file.write_text(FIRST.hex())
    file.chmod(0o644)
    with pytest.raises(ConfigError, match=f"chmod 640 and root:edge-agent, or 600.*{file}"):
        read_keys(str(file))
