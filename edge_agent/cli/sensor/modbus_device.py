"""A Modbus TCP device: its description as TOML, and reading its registers.

The protocol is spoken here, without a library: reading is four functions of one form, a request of
12 bytes (MBAP head, function, address, count), and Trio has deadlines. A device that does not
answer, or answers something else, costs that reading and the connection.
"""

from __future__ import annotations

import re
import struct
import tomllib
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated, Final, Literal, get_args, get_type_hints

import msgspec
import trio

from edge_agent.errors import ConfigError
from edge_agent.output.printable import why
from edge_agent.values.stream_names import stream_problem

_MOST_REGISTERS: Final = 125
_MOST_BITS: Final = 2000
_MBAP: Final = struct.Struct(">HHHB")
#: What a device answers instead of values; its number stands behind the function.
_EXCEPTIONS: Final = {
    1: "it does not know this function",
    2: "it has no such address",
    3: "it does not take this count",
    4: "it has failed",
    6: "it is busy",
    10: "the gateway has no way to it",
    11: "the device behind the gateway does not answer",
}
_CLOSED: Final = "the device has closed the connection"
_FUNCTIONS: Final = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
#: What TOML calls the types.
_WORDS: Final = {
    "str": "text", "int": "a whole number", "float": "a number", "bool": "true or false",
    "array": "a list", "object": "a table",
}  # fmt: skip
#: Letter of `struct`, and registers.
_TYPES: Final = {
    "u16": ("H", 1), "i16": ("h", 1), "u32": ("I", 2), "i32": ("i", 2), "f32": ("f", 2),
    "u64": ("Q", 4), "i64": ("q", 4), "f64": ("d", 4), "bool": ("", 1),
}  # fmt: skip


class ModbusRegister(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One value of a device.

    Attributes:
        name: of the field.
        address: as it goes over the wire, from 0. "40001" in a manual is often 0.
        kind, type: where it is, and what it is; coils and discrete inputs are ``bool``.
        order: of the bytes; A is the highest. ``CDAB``: the low word comes first.
        scale, offset: value × scale + offset is stored, with ``digits`` behind the point.
    """

    name: Annotated[str, msgspec.Meta(min_length=1)]
    address: Annotated[int, msgspec.Meta(ge=0, le=65_535)]
    kind: Literal["holding", "input", "coil", "discrete"] = "holding"
    type: Literal["u16", "i16", "u32", "i32", "f32", "u64", "i64", "f64", "bool"] = "u16"
    order: Literal["ABCD", "CDAB", "BADC", "DCBA"] = "ABCD"
    scale: float = 1
    offset: float = 0
    digits: Annotated[int, msgspec.Meta(ge=0, le=12)] = 6

    @property
    def is_bit(self) -> bool:
        """Whether it is one bit, and no register."""
        return self.kind in ("coil", "discrete")

    @property
    def size(self) -> int:
        """Registers, or bits, that it takes."""
        return 1 if self.is_bit else _TYPES[self.type][1]

    def value(self, raw: bytes) -> float | int | bool:
        """The value of its bytes.

        >>> ModbusRegister("t", 0, type="i16", scale=0.1).value(bytes.fromhex("00d7"))
        21.5
        """
        if self.type == "bool":
            return any(raw)
        words = [raw[at : at + 2] for at in range(0, len(raw), 2)]
        if self.order in ("CDAB", "DCBA"):
            words.reverse()
        if self.order in ("BADC", "DCBA"):
            words = [word[::-1] for word in words]
        found: float | int = struct.unpack(">" + _TYPES[self.type][0], b"".join(words))[0]
        if self.scale == 1 and self.offset == 0:
            return found
        return round(found * self.scale + self.offset, self.digits)


class ModbusDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device, as a file describes it. ``interval`` and ``timeout`` are seconds."""

    host: Annotated[str, msgspec.Meta(min_length=1)]
    stream: Annotated[str, msgspec.Meta(min_length=1)]
    register: Annotated[tuple[ModbusRegister, ...], msgspec.Meta(min_length=1)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 502
    unit: Annotated[int, msgspec.Meta(ge=0, le=255)] = 1
    interval: Annotated[float, msgspec.Meta(ge=0.01)] = 1.0
    timeout: Annotated[float, msgspec.Meta(gt=0, le=60)] = 3.0


def load_device(path: Path) -> ModbusDevice:
    """The description in a file.

    Raises:
        ConfigError: it cannot be read, or something in it is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8").removeprefix("\ufeff")
        described = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(str(path), "a file that can be read", why(error)) from error
    except ValueError as error:
        raise ConfigError(str(path), "TOML", f"a mistake: {error}") from error
    try:
        device = msgspec.convert(described, ModbusDevice, strict=True)
    except msgspec.ValidationError as error:
        raise _mistake(path, described, str(error)) from error
    if (problem := stream_problem(device.stream)) is not None:
        expected = "a name like greenhouse/meter"
        raise ConfigError(f"{path}: stream", expected, f"{device.stream!r} ({problem})")
    names = [each.name for each in device.register]
    for each in device.register:
        if names.count(each.name) > 1:
            raise ConfigError(f"{path}: register", "a name that is used once", repr(each.name))
        if each.is_bit != (each.type == "bool") and each.is_bit:
            raise ConfigError(f"{path}: {each.name}", 'type = "bool"', f'"{each.type}"')
        if each.address + each.size > 65_536:
            raise ConfigError(f"{path}: {each.name}", "an address below", str(each.address))
    return device


def _mistake(path: Path, described: object, told: str) -> ConfigError:
    """What the library says of a file, in the words of all other files, and what stands there."""
    told, _, place = told.partition(" - at `$.")
    place = place.rstrip("`")
    where = f"{path}: {place}" if place else str(path)
    if found := re.fullmatch(r"Object missing required field `(.*)`", told):
        return ConfigError(where, f"a key {found[1]!r}", "none")
    if found := re.fullmatch(r"Object contains unknown field `(.*)`", told):
        keys = (ModbusRegister if "register" in place else ModbusDevice).__struct_fields__
        return ConfigError(where, f"one of {', '.join(keys)}", f"the unknown key {found[1]!r}")
    if found := re.fullmatch(r"Invalid enum value (.*)", told):
        choices = get_args(get_type_hints(ModbusRegister)[place.rpartition(".")[2]])
        return ConfigError(where, f"one of {', '.join(choices)}", found[1])
    told = re.sub(r"`(\w+)`", lambda found: _WORDS.get(found[1], found[1]), told)
    for step in re.findall(r"\w+", place):
        described = described[int(step) if step.isdigit() else step]  # type: ignore[index]  # by the library's own word
    shown = str(described).lower() if isinstance(described, bool) else f"{described!r:.60}"
    return ConfigError(where, told.removeprefix("Expected ").partition(", got ")[0], shown)


class NotRead(Exception):
    """The device said why it gives no values; the connection is sound."""


class ModbusReader:
    """Reads a device over one connection, and makes a new one after each trouble."""

    def __init__(self, device: ModbusDevice) -> None:
        self._device = device
        self._groups = list(groups_of(device.register))
        self._stream: trio.SocketStream | None = None
        self._number = 0

    async def read(self) -> tuple[dict[str, float | int | bool], list[str]]:
        """The fields that could be read, and a sentence for each group of registers that could
        not.

        Raises:
            OSError: no connection, no answer in time, or an answer that is none.
        """
        fields: dict[str, float | int | bool] = {}
        troubles: list[str] = []
        for group in self._groups:
            try:
                fields |= await self._read_group(group)
            except NotRead as error:
                troubles.append(f"{', '.join(each.name for each in group)}: {error}")
        return fields, troubles

    async def aclose(self) -> None:
        """Close the connection, if there is one."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await trio.aclose_forcefully(stream)

    async def _read_group(self, group: Sequence[ModbusRegister]) -> dict[str, float | int | bool]:
        first, last = group[0], group[-1]
        count = last.address + last.size - first.address
        raw = await self._ask(_FUNCTIONS[first.kind], first.address, count)
        if len(raw) != (-(-count // 8) if first.is_bit else 2 * count):
            await self.aclose()
            raise OSError("the device answers with another number of values")
        found: dict[str, float | int | bool] = {}
        for each in group:
            at = each.address - first.address
            if each.is_bit:
                found[each.name] = bool(raw[at // 8] >> at % 8 & 1)
            else:
                found[each.name] = each.value(raw[2 * at : 2 * (at + each.size)])
        return found

    async def _ask(self, function: int, address: int, count: int) -> bytes:
        device = self._device
        try:
            with trio.fail_after(device.timeout):
                if self._stream is None:
                    self._stream = await trio.open_tcp_stream(device.host, device.port)
                self._number = (self._number + 1) % 65_536
                request = struct.pack(">BHH", function, address, count)
                head = _MBAP.pack(self._number, 0, len(request) + 1, device.unit)
                await self._stream.send_all(head + request)
                answer = await self._answer(self._stream)
        except trio.TooSlowError:
            await self.aclose()
            raise OSError(f"no answer within {device.timeout:g} s") from None
        except trio.BrokenResourceError as error:
            # Which of the two happens, end or reset, depends on what was under way.
            await self.aclose()
            raise OSError(_CLOSED) from error
        except OSError as error:
            await self.aclose()
            raise OSError(f"{error}" or "the connection broke") from error
        except BaseException:
            # Cancelled in the middle: what comes would be taken for the next answer.
            await self.aclose()
            raise
        if answer[0] == function | 0x80 and len(answer) == 2:
            raise NotRead(_EXCEPTIONS.get(answer[1], f"exception {answer[1]}"))
        if answer[0] != function or len(answer) < 2 or answer[1] != len(answer) - 2:
            await self.aclose()
            raise OSError("the device answers something else than it was asked")
        return answer[2:]

    async def _answer(self, stream: trio.SocketStream) -> bytes:
        number, protocol, size, unit = _MBAP.unpack(await _exactly(stream, _MBAP.size))
        if (number, protocol, unit) != (self._number, 0, self._device.unit) or not 3 <= size <= 254:
            raise OSError("this is no answer of Modbus TCP to what was asked")
        return await _exactly(stream, size - 1)


def groups_of(registers: Sequence[ModbusRegister]) -> Iterator[list[ModbusRegister]]:
    """Registers that are read in one request: neighbours of one kind, without holes, since a hole
    may be an address that the device does not have.
    """
    ordered = sorted(registers, key=lambda each: (each.kind, each.address))
    for _, alike in groupby(ordered, key=lambda each: each.kind):
        group: list[ModbusRegister] = []
        for each in alike:
            most = _MOST_BITS if each.is_bit else _MOST_REGISTERS
            end = group[-1].address + group[-1].size if group else 0
            if group and (each.address > end or each.address + each.size - group[0].address > most):
                yield group
                group = []
            group.append(each)
        yield group


async def _exactly(stream: trio.SocketStream, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = await stream.receive_some(size - len(found))
        if not piece:
            raise OSError(_CLOSED)
        found += piece
    return found
