"""Sealing: what is stored is encrypted, and only who has the key reads it (docs/encryption.md).

`KeyRing` seals values and opens them. A sealed value is, one behind the other::

    c1 01        no msgpack, zstd or UTF-8 begins so; 01 is the algorithm
    8 bytes      id of the key
    24 bytes     random, new for each value
    …            ciphertext, and 16 bytes that prove it

**The algorithm** is XAES-256-GCM (https://c2sp.org/XAES-256-GCM): of the 24 bytes the first twelve
make a key for this value alone, under which AES-256-GCM seals it with the other twelve as nonce.
There is one, and an id for another. A Pi 5 and a PC have instructions for AES; a Pi 4 has none, and
ChaCha20 would be quicker there. But what is sealed is compressed, well below a megabyte a second on
a busy board, and no AES is so slow that this would show.

**Why the nonce is random and so long.** A nonce that comes twice under one key gives the values
away. One that is counted, or made of a log's seq, does come twice: after a power cut the same seq
is given to other records, as it is in a store that was put back, and on both of two copied cards.
Random bytes know of no such past, and 24 of them are enough for any number of values. Twelve, which
AES-GCM takes by itself, would have to be counted: 2**32 values is the limit.

**Why one key for all stores that have the file.** A store's id changes when it is copied, restored
or salvaged, and its values stay as they are; with a key made of the id they could not be read then.

**What else is under the proof**: the place where a value lies (``place``), so that it cannot be
exchanged for another one. Who may write to the card can still put back an older one of the same
place, or all of it, or an open one: values from before there was a key are read as they are.

Nothing here asks for chance: random bytes come from ``entropy``.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.errors import ConfigError, StoreDamaged
from edge_agent.system.files import refuse_pipes, why_unreadable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.ciphers.modes import ECB

#: How a sealed value begins: the mark, and the algorithm.
MARK = b"\xc1\x01"
SECRET_BYTES = 32
ID_BYTES = 8
_NONCE_BYTES = 24
_HEAD_BYTES = len(MARK) + ID_BYTES + _NONCE_BYTES
#: By how much a sealed value is longer.
SEAL_BYTES = _HEAD_BYTES + 16
#: A file with more keys is the wrong file.
_KEYS_MAX = 16
_FILE_BYTES_MAX = 4096
_EXPECTED = "64 hexadecimal digits in a line for each key, as `openssl rand -hex 32` makes them"


class Xaes:
    """XAES-256-GCM under one key of 32 bytes; may be used from any thread."""

    def __init__(self, key: bytes) -> None:
        # Imported here: whoever seals nothing does not pay for it.
        from cryptography.hazmat.primitives.ciphers import Cipher
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.ciphers.algorithms import AES256
        from cryptography.hazmat.primitives.ciphers.modes import ECB

        self._aead = AESGCM
        self._cipher: Cipher[ECB] = Cipher(AES256(key), ECB())
        # CMAC's first subkey.
        doubled = int.from_bytes(self._encrypted(bytes(16)), "big") << 1
        self._subkey = doubled ^ ((1 << 128) | 0x87) if doubled >> 128 else doubled

    def seal(self, nonce: bytes, data: bytes, place: bytes) -> bytes:
        """``data`` encrypted, and the proof behind it."""
        return self._of_value(nonce).encrypt(nonce[12:], data, place)

    def open(self, nonce: bytes, data: bytes | memoryview, place: bytes) -> bytes:
        """What was sealed. Raises InvalidTag."""
        return self._of_value(nonce).decrypt(nonce[12:], data, place)

    def _of_value(self, nonce: bytes) -> AESGCM:
        counted = (bytes((0, number, 0x58, 0)) + nonce[:12] for number in (1, 2))
        blocks = (int.from_bytes(one, "big") ^ self._subkey for one in counted)
        return self._aead(self._encrypted(b"".join(one.to_bytes(16, "big") for one in blocks)))

    def _encrypted(self, blocks: bytes) -> bytes:
        return self._cipher.encryptor().update(blocks)


class KeyRing:
    """The keys of a store. Without any, values stay as they are, and none that is sealed is opened.

    Args:
        secrets: of 32 bytes. The first one seals, each opens what it has sealed.
        entropy: random bytes, for sealing.
        seals: False: what comes from now on stays open.
    """

    def __init__(
        self,
        secrets: Sequence[bytes] = (),
        entropy: Callable[[int], bytes] | None = None,
        *,
        seals: bool = True,
    ) -> None:
        self.secrets = tuple(secrets)
        self._entropy = entropy
        self._by_id = {_derived(one, "id")[:ID_BYTES]: Xaes(_derived(one, "values"))
                       for one in secrets}  # fmt: skip
        #: Of the keys that open.
        self.ids: Collection[bytes] = self._by_id.keys()
        #: Of the key that seals; b"" where nothing is sealed.
        self.current = next(iter(self._by_id), b"") if seals and entropy is not None else b""

    def sealed(self, place: bytes, value: bytes) -> bytes:
        """What to store of ``value`` at ``place``: itself where nothing is sealed."""
        if not self.current or self._entropy is None:
            return value
        nonce = self._entropy(_NONCE_BYTES)
        assert len(nonce) == _NONCE_BYTES
        return MARK + self.current + nonce + self._by_id[self.current].seal(nonce, value, place)

    def opened(self, place: bytes, value: bytes | memoryview) -> bytes:
        """What `sealed` was given; what is not sealed is as it is.

        Raises:
            StoreDamaged: its key is not here; or it is not what was sealed, or not for this place.
        """
        if not is_sealed(value):
            return bytes(value)
        key = self._by_id.get(key_id(value))
        if key is None:
            raise StoreDamaged(f"it is sealed with the key {key_id(value).hex()}, not given here")
        from cryptography.exceptions import InvalidTag

        nonce = bytes(value[_HEAD_BYTES - _NONCE_BYTES : _HEAD_BYTES])
        try:
            return key.open(nonce, value[_HEAD_BYTES:], place)
        except InvalidTag as error:
            raise StoreDamaged("it is sealed, and not what was sealed for this place") from error

    def lacks(self, needed: Iterable[bytes]) -> str:
        """A sentence where one of the keys with the ids ``needed`` is not here; else ""."""
        missing = [one.hex() for one in needed if one not in self.ids]
        if not missing:
            return ""
        here = ", ".join(one.hex() for one in self.ids)
        told = f"store.key_file has {here} alone" if here else "store.key_file gives no key"
        return f"it is sealed with the key {', '.join(missing)}, and {told}; nothing was changed"

    def also(self, before: Iterable[bytes]) -> tuple[bytes, ...]:
        """``before``, ids of keys that something is sealed with, and that of the key that seals."""
        current = [self.current] if self.current else []
        return tuple(dict.fromkeys((*before, *current)))


#: For a store that is not sealed.
OPEN = KeyRing()


def is_sealed(value: bytes | memoryview) -> bool:
    """Whether a value is sealed."""
    return len(value) >= SEAL_BYTES and value[: len(MARK)] == MARK


def key_id(value: bytes | memoryview) -> bytes:
    """The id of the key that a sealed value needs."""
    return bytes(value[len(MARK) : len(MARK) + ID_BYTES])


def read_keys(
    path: str | None, entropy: Callable[[int], bytes] | None = None, *, seals: bool = True
) -> KeyRing:
    """The keys in the file ``path``, the first one for sealing; none where there is no file.

    Raises:
        ConfigError: it cannot be read, everybody can read it, or it holds something else.
    """
    if path is None:
        return OPEN
    try:
        refuse_pipes(Path(path))
        with Path(path).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        found = f"{path}: {why_unreadable(error, path)}"
        raise ConfigError("store.key_file", "a file that can be read", found) from None
    if stat.S_ISREG(mode) and mode & stat.S_IRWXO:
        expected = "a file that not everybody may read (chmod 640 and root:edge-agent, or 600)"
        raise ConfigError("store.key_file", expected, f"one that everybody may read: {path}")
    lines = [one.strip() for one in text.splitlines() if one.strip()]
    try:
        secrets = [bytes.fromhex(one.decode("ascii")) for one in lines]
    except ValueError:
        secrets = []
    whole = len(text) <= _FILE_BYTES_MAX and 0 < len(secrets) <= _KEYS_MAX
    if not whole or any(len(one) != SECRET_BYTES for one in secrets):
        # What it holds may be a secret of something else: it is not repeated.
        raise ConfigError("store.key_file", _EXPECTED, f"something else in {path}")
    return KeyRing(secrets, entropy, seals=seals)


def _derived(secret: bytes, what: str) -> bytes:
    """HKDF-Expand with SHA-256, of a secret that is random in all its bytes."""
    return hmac.digest(secret, f"edge_agent {what}".encode() + b"\x01", hashlib.sha256)
