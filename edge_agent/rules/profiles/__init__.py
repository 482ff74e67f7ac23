"""Profiles: messages of kinds of devices made into streams and fields, each by its name.

Each is a pure function of one record. What it does not know it leaves as it is.
"""

from __future__ import annotations

from edge_agent.config import Profile
from edge_agent.rules.profiles.cloudevents import cloudevent
from edge_agent.rules.profiles.esphome import esphome
from edge_agent.rules.profiles.senml import Senml
from edge_agent.rules.profiles.shelly import shelly_notification
from edge_agent.rules.profiles.tasmota import tasmota
from edge_agent.rules.profiles.zigbee2mqtt import zigbee2mqtt
from edge_agent.rules.steps import Act

__all__ = ["profile_act"]


def profile_act(name: Profile) -> Act:
    """What the profile does to a record."""
    if name == "senml":
        return Senml().act
    return {
        "shelly-gen2": shelly_notification,
        "tasmota": tasmota,
        "esphome": esphome,
        "zigbee2mqtt": zigbee2mqtt,
        "cloudevents": cloudevent,
    }[name]
