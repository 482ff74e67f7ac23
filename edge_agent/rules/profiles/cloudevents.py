"""CloudEvents 1.0 as JSON, structured: one object with the event's attributes and its ``data``.

The members of ``data`` become the fields; one that is no object is the field ``data``, and
``data_base64`` the same in bytes. Of the attributes ``ce_type``, ``ce_source``, ``ce_id`` and,
where there, ``ce_subject`` are kept. ``time`` is the time already. A member ``time`` or ``stream``
of the data is called ``data_time`` or ``data_stream``.
"""

from __future__ import annotations

import base64
import binascii

from edge_agent.rules.steps import Fields, Outcome, Spot, Unfit

_REQUIRED = ("specversion", "type", "source", "id")
_KEPT = ("type", "source", "id", "subject")


def cloudevent(fields: Fields, spot: Spot) -> Outcome:
    """An event's data, and what it is about; what is no event stays as it is.

    Raises:
        Unfit: ``data_base64`` is none.
    """
    if not all(isinstance(fields.get(name), str) for name in _REQUIRED):
        return fields
    told: Fields = {}
    data = fields.get("data")
    if isinstance(data, dict):
        for name, value in data.items():
            told[f"data_{name}" if name in ("time", "stream") else name] = value
    elif data is not None:
        told["data"] = data
    elif isinstance(fields.get("data_base64"), str):
        try:
            told["data"] = base64.b64decode(fields["data_base64"], validate=True)
        except binascii.Error as error:
            raise Unfit("bad_record", f"data_base64: {error}") from None
    told |= {f"ce_{name}": fields[name] for name in _KEPT if name in fields}
    if "time" in fields:
        told["time"] = fields["time"]
    return [(spot.stream, told)]
