"""The sender's part of the protocol: messages about records, and which may come next. No I/O.

The protocol itself is described in `edge_agent.wire`. This part of it is what a sensor has to know,
and needs nothing but msgpack: a sensor has neither our store nor its libraries. ``client/`` and
``forward/`` send by it; ``wire/`` reads what they send, and answers. Pure, as ``wire/`` is.

- ``control.py``: hello, welcome, ack, nack, stop, and the codes with which a connection ends.
- ``states.py``: when each of these is in order, and where numbers go on.
- ``client_session.py``: the sender's side. The agent's is `edge_agent.wire.ServerSession`.
- ``checked.py``: how what a peer sent is looked at before it is used.
"""

from edge_agent.session.client_session import ClientSession, Resume
from edge_agent.session.control import (
    CLOSE_FORBIDDEN,
    CLOSE_PROTOCOL,
    CLOSE_RESTART,
    CLOSE_TAKEN_OVER,
    CLOSE_TOO_BIG,
    CLOSE_TRY_LATER,
    CLOSE_UNDECODABLE,
    FORBIDDEN,
    JSON_SESSION,
    MSGPACK_SESSION,
    NUMBER_MAX,
    PLAIN,
    Ack,
    Hello,
    History,
    Mode,
    Nack,
    Stop,
    ToldLimits,
    Unknown,
    Welcome,
    Window,
    decode_from_agent,
    decode_hello,
    encode_ack,
    encode_control,
)
from edge_agent.session.states import (
    SERVER,
    ClientState,
    FailureMemory,
    ResumePoint,
    ServerInput,
    ServerState,
    follow,
    has_forked,
    resume_point,
)

__all__ = [
    "CLOSE_FORBIDDEN",
    "CLOSE_PROTOCOL",
    "CLOSE_RESTART",
    "CLOSE_TAKEN_OVER",
    "CLOSE_TOO_BIG",
    "CLOSE_TRY_LATER",
    "CLOSE_UNDECODABLE",
    "FORBIDDEN",
    "JSON_SESSION",
    "MSGPACK_SESSION",
    "NUMBER_MAX",
    "PLAIN",
    "SERVER",
    "Ack",
    "ClientSession",
    "ClientState",
    "FailureMemory",
    "Hello",
    "History",
    "Mode",
    "Nack",
    "Resume",
    "ResumePoint",
    "ServerInput",
    "ServerState",
    "Stop",
    "ToldLimits",
    "Unknown",
    "Welcome",
    "Window",
    "decode_from_agent",
    "decode_hello",
    "encode_ack",
    "encode_control",
    "follow",
    "has_forked",
    "resume_point",
]
