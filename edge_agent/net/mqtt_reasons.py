"""A broker's reason codes, each as a sentence with what is to be done about it. Pure.

Version 5 has a code for each answer (chapter 2.4). 3.1.1 has them for CONNECT alone; a PUBLISH that
it does not allow it acknowledges like any other, or it hangs up.
"""

from __future__ import annotations

from typing import Final, Literal

from edge_agent.errors import SinkUnavailable

#: Nobody subscribes to the topic. A success, and a reason to look.
NOBODY_SUBSCRIBES: Final = 0x10
NOT_AUTHORISED: Final = 0x87
#: From here on a code tells of a failure.
FAILURES: Final = 0x80

_WORDS: Final = {
    0x00: "without a reason",
    0x80: "an error that it does not name", 0x81: "it could not read the packet",
    0x82: "it takes our packet for a mistake", 0x83: "it does not accept this",
    0x84: "it does not speak this version of MQTT",
    0x85: "it does not accept the client id", 0x86: "it does not accept user and password",
    0x87: "not authorised", 0x88: "the server is not available", 0x89: "the server is busy",
    0x8A: "this client is banned", 0x8B: "the server shuts down", 0x8C: "it wants another login",
    0x8D: "it did not hear from us in time", 0x8E: "another client took over with this client id",
    0x8F: "the topic filter is not valid", 0x90: "the topic name is not valid",
    0x91: "the packet identifier is in use", 0x93: "more in flight than it takes",
    0x94: "the topic alias is not valid", 0x95: "the packet is too large",
    0x96: "more messages in a time than it takes", 0x97: "the quota is exceeded",
    0x98: "ended by an administrator", 0x99: "the payload is not of the announced format",
    0x9A: "it keeps no retained messages", 0x9B: "it takes QoS 0 alone",
    0x9C: "it asks to use another server", 0x9D: "it has moved to another server",
    0x9E: "it has no shared subscriptions", 0x9F: "more connections in a time than it takes",
    0xA0: "connected for as long as it allows", 0xA1: "it has no identifiers of subscriptions",
    0xA2: "it has no wildcards",
}  # fmt: skip
#: 3.1.1's answers to CONNECT, as the codes of version 5.
_OLD_CONNACK: Final = {1: 0x84, 2: 0x85, 3: 0x88, 4: 0x86, 5: 0x87}
#: Answers to CONNECT which no later try changes: a person has to.
_LASTING: Final = frozenset((0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C, 0x90, 0x95, 0x9A, 0x9B, 0x9D))
#: And to SUBSCRIBE; in 3.1.1 there is only 0x80.
LASTING_OF_TOPIC: Final = frozenset((0x87, 0x8F, 0x9E, 0xA1, 0xA2))
#: Answers to a PUBLISH that are about its content; about its topic is `NOT_AUTHORISED`.
OF_CONTENT: Final = frozenset((0x90, 0x95, 0x99))


def words(code: int, said: str = "") -> str:
    """A code for people, with the server's own sentence where it sent one."""
    known = _WORDS.get(code, "a reason that is not known")
    shown = "".join(c if c.isprintable() else " " for c in said)[:200].strip()
    return f"{known} (0x{code:02x})" + (f": {shown}" if shown else "")


def refused_connect(
    version: Literal["5", "3.1.1"],
    code: int,
    said: str = "",
    *,
    older: str = 'version = "3.1.1"',
    login: str = "user, password_file, client_id and certificate",
) -> SinkUnavailable:
    """What to raise for a CONNACK that is no welcome, slow where only a person can change that;
    ``older`` asks for 3.1.1, and ``login`` says who we are, in the words of whoever reads this.
    """
    if code < FAILURES:
        # A server without version 5 answers with codes of 3.1.1 whatever it was asked.
        code = _OLD_CONNACK.get(code, 0x80)
    hint = ""
    if code == 0x84 and version == "5":
        hint = f"; {older} asks for the older one"
    elif code in (0x85, 0x86, 0x87):
        hint = f"; see {login}"
    text = f"the broker refuses the connection: {words(code, said)}{hint}"
    return SinkUnavailable(text, slow=code in _LASTING, obstacle="there")
