"""Examples of the tables of kinds, for the document that `reference` makes."""

from __future__ import annotations

from typing import Final

HTTP: Final = """\
[[upstream]]
name = "telemetry"
url = "https://telemetry.example/v2/points"
[upstream.http]
method = "PUT"
content_type = "application/vnd.example+json"
template = '{"name": {stream}, "at": {time_ms}, "values": {fields}}'
envelope = '{"site": "north", "points": [{records}]}'"""
FILE: Final = """\
[[upstream]]
name = "stick"
url = "file:///mnt/usb/edge"
[upstream.file]
age = "1h"
mounted = true
keep_bytes = "8GB\""""
