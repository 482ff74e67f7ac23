"""A Modbus device as a file describes it, and its bytes as values."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.cli.sensor.modbus_device import ModbusRegister, groups_of, load_device
from edge_agent.errors import ConfigError

WHOLE = 'host = "meter"\nstream = "plant/meter"\n'
REGISTER = '[[register]]\nname = "a"\naddress = 1\n'


@pytest.mark.parametrize(
    "type_, order, text, value",
    [
        ("u16", "ABCD", "0900", 2304),
        ("u16", "BADC", "0009", 2304),
        ("i16", "ABCD", "ff29", -215),
        ("f32", "ABCD", "42490000", 50.25),
        ("f32", "CDAB", "00004249", 50.25),
        ("f32", "BADC", "49420000", 50.25),
        ("f32", "DCBA", "00004942", 50.25),
        ("u32", "CDAB", "11700001", 70_000),
        ("i64", "DCBA", "feffffffffffffff", -2),
        ("bool", "ABCD", "0100", True),
        ("bool", "ABCD", "0000", False),
    ],
)
def test_bytes_become_values(type_: str, order: str, text: str, value: float) -> None:
    register = ModbusRegister("x", 0, type=type_, order=order)  # type: ignore[arg-type] # of the table
    assert register.value(bytes.fromhex(text)) == value


def test_a_value_is_scaled_and_rounded() -> None:
    register = ModbusRegister("t", 0, type="i16", scale=0.1, offset=-1, digits=2)
    assert register.value(bytes.fromhex("00d7")) == 20.5


def test_neighbours_are_read_together_and_holes_are_not() -> None:
    registers = [
        ModbusRegister("d", 10), ModbusRegister("a", 0, type="f32"),
        ModbusRegister("b", 2), ModbusRegister("c", 1),
        ModbusRegister("i", 3, kind="input"), ModbusRegister("x", 0, kind="coil", type="bool"),
        *(ModbusRegister(f"n{n}", 100 + 2 * n, type="u32") for n in range(70)),
    ]  # fmt: skip
    groups = [[each.name for each in group] for group in groups_of(registers)]
    assert groups[:3] == [["x"], ["a", "c", "b"], ["d"]]
    assert [len(group) for group in groups[3:5]] == [62, 8]  # 125 registers at most
    assert groups[5:] == [["i"]]


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "a key 'host', found none"),
        (
            WHOLE + '[[register]]\nname = "a"\naddress = 1\ntype = "uint16"\n',
            "one of u16, i16, u32",
        ),
        (WHOLE + "prot = 502\n" + REGISTER, "one of host, stream, register, .* unknown key 'prot'"),
        (WHOLE + REGISTER + "scale = true\n", r"\[0\].scale: expected a number, found true$"),
        (WHOLE + "interval = 0\n" + REGISTER, r"interval: expected a number >= 0.01, found 0$"),
        (WHOLE + "register = [1]\n", r"register\[0\]: expected a table, found 1$"),
        (WHOLE + "register = []\n", r"register: expected a list of length >= 1, found \[\]$"),
        ('host = ""\nstream = "a"\n' + REGISTER, r"host: expected text of length >= 1, found ''$"),
        (WHOLE.replace("/meter", "/me ter") + REGISTER, "stream: expected a name"),
        (WHOLE, "register"),
        (WHOLE + '[[register]]\nname = "a"\nadress = 1\n', "adress"),
        (WHOLE + '[[register]]\nname = "a"\naddress = 70000\n', "65535"),
        (WHOLE + '[[register]]\nname = "a"\naddress = 65535\ntype = "u32"\n', "an address below"),
        (WHOLE + '[[register]]\nname = "a"\naddress = 1\n' * 2, "once"),
        (WHOLE + '[[register]]\nname = "a"\naddress = 1\nkind = "coil"\n', "bool"),
        (WHOLE + '[[register]]\nname = "a"\naddress = 1\norder = "AB"\n', "order"),
        ("host = ", "Invalid"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "meter.toml").write_text(text)
    with pytest.raises(ConfigError, match=said) as told:
        load_device(tmp_path / "meter.toml")
    assert "meter.toml" in str(told.value)


def test_a_file_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"meter\.toml"):
        load_device(tmp_path / "meter.toml")


def test_a_file_of_a_windows_editor_is_read(tmp_path: Path) -> None:
    text = "\ufeff" + (WHOLE + REGISTER).replace("\n", "\r\n")
    (tmp_path / "meter.toml").write_bytes(text.encode())
    assert load_device(tmp_path / "meter.toml").register[0].name == "a"
