"""``edge-agent sensor``: be a sensor.

`host` is this machine itself; `mqtt` is what a broker says, with `mqtt_messages` for what becomes
of a message and `broker` for the connection; `modbus` polls a device that `modbus_device`
describes and reads. `ticks` is the pace of both that read at intervals.
"""

from edge_agent.cli.sensor import modbus, mqtt
from edge_agent.cli.sensor.host import command

command.add_command(mqtt.mqtt)
command.add_command(modbus.modbus)

__all__ = ["command"]
