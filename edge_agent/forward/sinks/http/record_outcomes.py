"""This module reads in a JSON answer which records were taken, refused or put off. Pure.

Many APIs answer 200 and say in the body that a part failed: Elasticsearch's ``_bulk`` and whoever
took over its shape, Kinesis and Firehose, 207 Multi-Status, GraphQL, JSON-RPC, and any
``{"success": false}``. What is read of a body:

- *A list with one object for each record*, in their order or by our ids: each may hold a status
  (``status``, ``statusCode``, ``code``; also within ``{"index": {…}}``) or an error. 2xx is taken.
  400, 409, 413, 422 and their like refuse this record; 429 and 5xx ask for it later; 401, 403 and
  404 need a person. An error without a status refuses its record if others of the batch were taken,
  as then it cannot well be the upstream itself that is down. A list of failures alone (``errors``,
  ``Failed``) names records by our ids or not at all: where it counts from, nobody knows.
- *Signs for the whole*: ``errors``, ``error``, ``failed``, ``FailedRecordCount``, ``partial`` …
  that say anything but nothing; ``success``, ``ok``, ``accepted`` … that say no, nothing, or fewer
  than were sent; a ``status`` of 400 and more, or a word like ``error``. Without a status they do
  not say whether a later try would help, so the batch is kept and tried again, like after a 500,
  and the reason told.

Only names that stand for outcomes are looked at, at the top, in the usual wrappers and in lists of
objects; an upstream that sends back what it was sent may do so. Values nobody looks at are never
decoded, so that 16 MiB of answer cost little more than themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import msgspec

from edge_agent.forward.sinks.http.outcome_words import (
    BAD_RESULTS,
    IDS,
    NAME_MAX,
    NOTHING,
    OPERATIONS,
    PASSES,
    about_name,
    denies,
)

Kind = Literal["taken", "refused", "later", "person", "unclear"]

_Members = dict[str, msgspec.Raw]
_value = msgspec.json.Decoder()
_members = msgspec.json.Decoder(_Members)
_elements = msgspec.json.Decoder(list[msgspec.Raw])
_REASON_SHOWN: Final = 200
#: What decides where a body says several things.
_GRAVEST: Final[tuple[Kind, ...]] = ("person", "later", "refused", "unclear", "taken")
_UNREADABLE: Final = object()
_COMPOUND: Final = object()


class RecordOutcome(NamedTuple):
    """One record's outcome, or the whole batch's; ``reason`` in the upstream's words."""

    kind: Kind
    reason: str = ""


_TAKEN: Final = RecordOutcome("taken")
#: Told as an error, and none: it has the record already.
_HELD: Final = RecordOutcome("taken", "held already")


@dataclass(slots=True)
class BatchOutcome:
    """What the body says of the batch.

    Attributes:
        verdict: of the batch as a whole.
        refused: index of a record to the reason it was refused for; all others were taken.
        is_clear: whether the body speaks for each record.
        failed: how many of them have failed then.
        explains_errors: whether one is told as an error that is none.
    """

    verdict: RecordOutcome = _TAKEN
    refused: dict[int, str] = field(default_factory=dict)
    is_clear: bool = False
    failed: int = 0
    explains_errors: bool = False


def outcome_of(body: bytes, ids: Sequence[str]) -> BatchOutcome:
    """Read an answer's JSON; ``ids`` are those of the records that were sent, in their order.

    Raises:
        msgspec.MsgspecError, UnicodeDecodeError, RecursionError: it is no JSON.
    """
    # Once as a whole: a part that is not looked at must be JSON, too.
    raw = msgspec.json.decode(body.strip(), type=msgspec.Raw)
    kind = _first(raw)
    if kind == "[":
        return _listed(raw, ids, is_bad=False) or BatchOutcome()
    if kind == "{":
        return _object(_members.decode(raw), ids, depth=0) or BatchOutcome()
    said = _scalar(raw)
    bad = said is False or (isinstance(said, str) and denies(said))
    return BatchOutcome(RecordOutcome("unclear", printable(str(said)))) if bad else BatchOutcome()


def by_status(status: int) -> Kind:
    """What a status says of a whole batch."""
    if 200 <= status < 300:
        return "taken"
    if status in (400, 413, 422):
        return "refused"
    if status >= 500 or status in (408, 425, 429) or status < 400:
        return "later"
    return "person"


def printable(text: str) -> str:
    """Foreign text in one line, at most so long that a person reads it."""
    text = text[: 4 * _REASON_SHOWN]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(text.split())[:_REASON_SHOWN]


def _object(members: _Members, ids: Sequence[str], depth: int) -> BatchOutcome | None:
    """The gravest that an object says; None where it says nothing of outcomes, or that all is well.

    A list that speaks for every record makes clear what ``"errors": true`` beside it means.
    """
    found: list[BatchOutcome] = []
    told, fewer = _fewer(members, len(ids))
    for name, raw in members.items():
        first, about = _first(raw), about_name(name)
        outcome = None
        if first == "[":
            outcome = _listed(raw, ids, is_bad=about.is_bad and not about.is_partial)
        elif first == "{" and depth < 2 and about.is_wrapper:
            outcome = _object(_members.decode(raw), ids, depth + 1)
        elif about.is_bad:
            told = max(told, _number(_scalar(raw)) or 0)
        if outcome is not None:
            found.append(outcome)
    clear = next((one for one in found if one.is_clear), None)
    verdict = _sign(members, by_status, fewer)
    if verdict is not None and verdict.kind != "taken":
        found.append(BatchOutcome(verdict))
    gravest = min(found, key=lambda one: _GRAVEST.index(one.verdict.kind), default=None)
    if gravest is None or clear is None or gravest.verdict.kind in ("person", "later"):
        return gravest
    # It tells of more failures than the list does: which were taken is not known.
    is_explained = clear.failed or clear.explains_errors or gravest.verdict.kind == "taken"
    if told > clear.failed or not is_explained:
        return BatchOutcome(RecordOutcome("unclear", gravest.verdict.reason))
    return clear


def _listed(raw: msgspec.Raw, ids: Sequence[str], *, is_bad: bool) -> BatchOutcome | None:
    """What a list says, where it has an object for each record, or (``is_bad``) for each that
    failed.
    """
    elements = _elements.decode(raw)
    verdicts: list[tuple[int, RecordOutcome]] = []
    named: list[str] = []
    taken, held = 0, False
    for index, element in enumerate(elements):
        name, verdict = _element(element, is_result=len(elements) == len(ids))
        named.append(name)
        taken += verdict in (_TAKEN, _HELD) and not is_bad
        held = held or verdict is _HELD
        if is_bad and (verdict is None or verdict.kind == "taken"):
            verdict = RecordOutcome("unclear", printable(_text(element)))
        if verdict is not None and verdict.kind != "taken":
            verdicts.append((index, verdict))
    if not verdicts:
        is_clear = bool(elements) and taken == len(ids)
        return BatchOutcome(is_clear=True, explains_errors=held) if is_clear else None
    gravest = min((v for _, v in verdicts), key=lambda v: _GRAVEST.index(v.kind))
    if gravest.kind in ("person", "later") or len(verdicts) >= len(ids):
        return BatchOutcome(gravest)
    if not is_bad and len(elements) != len(ids):
        # Of some records it says nothing: they may be taken or not.
        return BatchOutcome(gravest)
    indexes = _indexes([index for index, _ in verdicts], named, ids, by_place=not is_bad)
    if indexes is None:
        return BatchOutcome(gravest)
    refused = {index: v.reason for index, (_, v) in zip(indexes, verdicts, strict=True)}
    return BatchOutcome(
        RecordOutcome("refused", gravest.reason), refused, is_clear=True, failed=len(refused)
    )


def _element(raw: msgspec.Raw, *, is_result: bool) -> tuple[str, RecordOutcome | None]:
    """The id that a list's element names ("": none), and what it says; a word says something if it
    ``is_result``.
    """
    if _first(raw) != "{":
        said = _scalar(raw)
        if isinstance(said, str):
            is_bad = is_result and said.strip().lower() in BAD_RESULTS
            return said, RecordOutcome("unclear", printable(said)) if is_bad else None
        return "", RecordOutcome("unclear", "false") if said is False else None
    members = _members.decode(raw)
    if len(members) == 1:
        ((operation, inner),) = members.items()
        if operation in OPERATIONS and _first(inner) == "{":
            members = _members.decode(inner)
    name = ""
    for key, value in members.items():
        if key.lower() in IDS and isinstance(said := _scalar(value), str):
            name = said
            break
    return name, _sign(members, _of_record, _fewer(members, 1)[1])


def _indexes(
    failed: Sequence[int], named: Sequence[str], ids: Sequence[str], *, by_place: bool
) -> list[int] | None:
    """Which records the failed elements stand for; None where that is not known for certain."""
    known: Mapping[str, int] = {name: index for index, name in enumerate(ids)}
    by_id = [known.get(named[at], -1) for at in failed]
    if min(by_id) >= 0 and len(set(by_id)) == len(by_id):
        return by_id
    # A place counts only where no element says that it stands for another one.
    moved = any(known.get(name, at) != at for at, name in enumerate(named))
    return list(failed) if by_place and not moved else None


def _of_record(status: int) -> Kind:
    """What a status says of one record among others."""
    kind = by_status(status)
    # Of a whole batch these may be a mistake of the configuration; one record's are its own.
    return "refused" if kind == "person" and status not in (401, 403, 404, 407) else kind


def _fewer(members: _Members, sent: int) -> tuple[int, str]:
    """How many fewer than were sent an object says were taken, and how it says so; "" if not."""
    counts: list[tuple[int, str, msgspec.Raw]] = []
    held = 0
    for name, raw in members.items():
        about = about_name(name)
        if not (about.is_count or about.is_held):
            continue
        count = len(_elements.decode(raw)) if _first(raw) == "[" else _number(_scalar(raw))
        if count is None or (count == 1 and about.is_1_yes):
            continue
        if about.is_held:
            held += count
        else:
            counts.append((count, name, raw))
    if not counts:
        return 0, ""
    count, name, raw = min(counts, key=lambda one: one[0])
    if count + held >= sent:
        return 0, ""
    return sent - count - held, printable(f"{name[:NAME_MAX]}: {_text(raw)}, and sent: {sent}")


def _sign(members: _Members, of_status: Callable[[int], Kind], fewer: str) -> RecordOutcome | None:
    """What an object says of itself: a status decides, else any bad sign; None: nothing.

    ``fewer``: how it says that not all were taken.
    """
    bad, good = fewer, False
    for name, raw in members.items():
        verdict = _said(name, raw, of_status)
        if verdict is None:
            continue
        if verdict.kind == "taken":
            good = True
        elif verdict.kind == "unclear":
            bad = bad or verdict.reason
        elif verdict.kind == "refused" and "version_conflict" in _reason(members):
            # Elasticsearch, asked to create what it has under this id already.
            return _HELD
        else:
            return RecordOutcome(verdict.kind, _reason(members) or verdict.reason)
    if bad:
        return RecordOutcome("unclear", _reason(members) or bad)
    return _TAKEN if good else None


def _said(name: str, raw: msgspec.Raw, of_status: Callable[[int], Kind]) -> RecordOutcome | None:
    """What one member says."""
    about = about_name(name)
    if not any(about):
        return None
    said = _scalar(raw)
    word = said.strip().lower() if isinstance(said, str) else ""
    number = _number(said)
    kind: Kind | None = None
    if about.is_status and number is not None:
        if 200 <= number < 300:
            kind = "taken"
        elif 400 <= number < 600:
            kind = of_status(number)
        elif number not in (0, 1):
            kind = "unclear"
    elif about.is_success and said is True:
        kind = "taken"
    elif about.is_success and (
        denies(said) if isinstance(said, str) else number is None and _is_nothing(raw, said)
    ):
        kind = "unclear"
    elif about.is_result and (said is False or word in BAD_RESULTS):
        kind = "later" if PASSES.fullmatch(word) else "unclear"
    elif about.is_partial and not _is_nothing(raw, said):
        # The usual wrapper says more within itself.
        kind = None if about.is_wrapper and _first(raw) == "{" else "unclear"
    elif about.is_bad and not _is_nothing(raw, said):
        kind = "later" if PASSES.fullmatch(word) else "unclear"
    if kind is None or kind == "taken":
        return None if kind is None else _TAKEN
    return RecordOutcome(kind, printable(f"{name[:NAME_MAX]}: {_text(raw)}"))


def _is_nothing(raw: msgspec.Raw, said: object) -> bool:
    """Whether the value of an ``error`` says that there is none."""
    if said is _COMPOUND:
        return "".join(_text(raw).split()) in ("{}", "[]")
    if isinstance(said, str):
        return said.strip().lower() in NOTHING
    return said is None or said is False or said == 0


def _reason(members: _Members) -> str:
    """The sentence of an error, where there is one for people; "" where not."""
    for name in ("error", "Error", "errors", "message", "Message", "reason", "errorMessage"):
        raw = members.get(name)
        if raw is not None and _first(raw) in ('"', "{") and not _is_nothing(raw, _scalar(raw)):
            return printable(_text(raw))
    return ""


def _first(raw: msgspec.Raw) -> str:
    return chr(memoryview(raw)[0])


def _text(raw: msgspec.Raw) -> str:
    return bytes(memoryview(raw)[: _REASON_SHOWN * 4]).decode("utf-8", "replace")


def _scalar(raw: msgspec.Raw) -> object:
    """A value that is no object and no list; else, or if it cannot be said, a mark."""
    if _first(raw) in "{[":
        return _COMPOUND
    try:
        return _value.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _UNREADABLE  # a number beyond all numbers, bytes that are no text


def _number(said: object) -> int | None:
    """A whole number, also one written as text."""
    if isinstance(said, str) and len(said) <= 6 and said.isascii() and said.isdigit():
        return int(said)
    if isinstance(said, float) and said.is_integer() and abs(said) < 1e9:
        return int(said)
    return said if isinstance(said, int) and not isinstance(said, bool) else None
