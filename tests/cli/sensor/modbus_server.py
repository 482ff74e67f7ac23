"""A Modbus TCP device: pymodbus' own server, run as ``python -m … PORT``.

Its values are laid out by pymodbus, so that nobody compares our reading with our writing.
"""

from __future__ import annotations

import sys

from pymodbus.client import ModbusTcpClient
from pymodbus.server import StartTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

KINDS = ModbusTcpClient.DATATYPE
#: Address of a holding register, type, value, and which word comes first.
HELD = (
    (0, KINDS.UINT16, 2304, "big"),
    (1, KINDS.INT16, -215, "big"),
    (2, KINDS.FLOAT32, 50.25, "big"),
    (4, KINDS.FLOAT32, 1013.5, "little"),
    (6, KINDS.UINT32, 70_000, "big"),
    (8, KINDS.INT64, -5_000_000_000, "little"),
    (20, KINDS.FLOAT64, 0.125, "big"),
)


def main() -> None:
    """Serve until ended."""
    registers = [0] * 24
    for address, kind, value, order in HELD:
        words = ModbusTcpClient.convert_to_registers(value, kind, word_order=order)  # type: ignore[arg-type] # a Literal
        registers[address : address + len(words)] = words
    held = [SimData(0, values=registers, datatype=DataType.REGISTERS)]
    inputs = [SimData(0, values=[17, 18], datatype=DataType.REGISTERS)]
    bits = [SimData(0, values=[True, False, True] + [False] * 13, datatype=DataType.BITS)]
    device = SimDevice(id=7, simdata=(bits, bits, held, inputs))
    StartTcpServer(context=device, address=("127.0.0.1", int(sys.argv[1])))


if __name__ == "__main__":
    main()
