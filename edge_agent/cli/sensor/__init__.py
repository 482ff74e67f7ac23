"""``edge-agent sensor``: be a sensor.

`host` is this machine itself; `mqtt` is what a broker says, with `mqtt_messages` for what becomes
of a message and `broker` for the connection.
"""

from edge_agent.cli.sensor import mqtt
from edge_agent.cli.sensor.host import command

command.add_command(mqtt.mqtt)

__all__ = ["command"]
