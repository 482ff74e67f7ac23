"""This module lists the words in which APIs say what became of records: names and values. Pure.

``record_outcomes.py`` reads answers with them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Where an object may say more about the whole.
_WRAPPERS: Final = _words(
    "body bulk d data meta metadata partialsuccess response result results status summary"
)
_STATUS: Final = _words(
    "status statuscode httpstatus httpstatuscode httpcode code errcode errno errorcode"
)
_RESULT: Final = _words("status result outcome state code")
#: What says that the records were taken: no value of these may be no, nothing, or fewer.
_SUCCESS: Final = _words(
    "accepted ack acked acknowledged complete completed delivered done ingested isaccepted"
    " iscomplete isok issuccess issuccessful ok persisted processed received saved stored succeeded"
    " success successful written"
)
#: … of which 1 may mean yes.
_YES_IS_1: Final = _words("ack complete done iscomplete isok issuccess ok success successful")
#: A number or list of that name is about the records that were taken, …
_TAKEN_WORDS: Final = _words(
    "accepted ack acked acknowledged created delivered imported indexed ingested inserted ok"
    " persisted processed received saved stored succeeded success successes successful written"
)
#: … to which those are added that were there before.
_HELD_WORDS: Final = _words(
    "deduplicated duplicate duplicated duplicates existed existing modified unchanged updated"
    " upserted"
)
#: Names with one of these tell of the records, and count none.
_TELLING_WORDS: Final = _words("code description details id info message msg reason size text type")
IDS: Final = frozenset(("id", "_id", "key", "recordid", "messageid"))
OPERATIONS: Final = _words("index create update delete insert upsert")
#: A name says that something failed if one of its words does and all the others only say of what.
_BAD_WORDS: Final = _words(
    "captive discarded dropped err error errored errors exception exceptions fail failed failing"
    " failure failures fault faults ignored invalid invalids lost missing refused reject rejected"
    " rejects rejections skipped unprocessed unsuccessful"
)
_FILLING_WORDS: Final = _words(
    "batch code count counts data datapoints description details documents docs entries entry"
    " event events had has id info insert is item items line lines list log logs measurements"
    " message messages metrics msg n no num number objects of operations partial points put reason"
    " record records request rows row samples shards size spans store text total type values with"
    " write writes"
)
#: A name of these says that a part is missing, of which it may name either half.
_PARTIAL_WORDS: Final = _words("incomplete partial partially")
NOTHING: Final = frozenset(
    ("", "0", "no", "none", "null", "nil", "false", "ok", "success", "n/a", "no error", "no errors")
)
BAD_RESULTS: Final = _words(
    "aborted busy canceled cancelled denied discarded dropped err error errored errors fail failed"
    " failing failure false forbidden ignored incomplete invalid ko nack no nok overloaded partial"
    " partial_failure partial_success partially_failed partialfailure partialsuccess rejected"
    " refused skipped throttled timeout unauthorized unavailable unsuccessful"
)
_NO: Final = BAD_RESULTS | {"", "f", "n", "n/a", "nil", "none", "null", "off"}
#: In a sentence for people that stands where yes is expected.
_NO_WORD: Final = re.compile(
    r"\b(cannot|error|errors|fail|failed|failure|incomplete|no|none|not|nothing|partial|partially"
    r"|refused|rejected|unable|unsuccessful)\b"
)
_OF: Final = re.compile(r"(?<!\S)(\d{1,9})(?:/| of | out of )(\d{1,9})(?!\S)")
#: Codes in words of what passes by itself, e.g. Kinesis' ProvisionedThroughputExceededException.
PASSES: Final = re.compile(
    r"[\w.-]{0,64}(busy|exhaust|internal|limit|overload|retry|slow_?down|temporar|throttl"
    r"|throughput|timed_?out|timeout|unavailable)[\w.-]{0,64}",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
#: Names longer than any API's are not taken apart.
NAME_MAX: Final = 64


class About(NamedTuple):
    """What a name may stand for."""

    is_status: bool
    is_result: bool
    is_success: bool
    is_1_yes: bool
    is_count: bool
    is_held: bool
    is_bad: bool
    is_partial: bool
    is_wrapper: bool


@lru_cache(maxsize=256)
def about_name(name: str) -> About:
    """What a member of this name may speak of."""
    plain = "".join(c for c in name[:NAME_MAX] if c.isalnum()).lower()
    words = {word.lower() for word in _WORD.findall(name)} if len(name) <= NAME_MAX else set()

    def of(kind: frozenset[str], others: frozenset[str] = _FILLING_WORDS) -> bool:
        return bool(words & kind) and words <= kind | others

    return About(
        is_status=plain in _STATUS,
        is_result=plain in _RESULT,
        is_success=plain in _SUCCESS,
        is_1_yes=plain in _YES_IS_1,
        is_count=of(_TAKEN_WORDS, _FILLING_WORDS - _TELLING_WORDS),
        is_held=of(_HELD_WORDS, _FILLING_WORDS - _TELLING_WORDS),
        is_bad=of(_BAD_WORDS),
        is_partial=of(_PARTIAL_WORDS, _FILLING_WORDS | {"success"}),
        is_wrapper=plain in _WRAPPERS,
    )


def denies(said: str) -> bool:
    """Whether a text that stands where yes is expected says no, or not of all."""
    word = said.strip().lower()
    if word in _NO:
        return True
    if any(int(one) < int(all_) for one, all_ in _OF.findall(word)):
        return True
    return word not in NOTHING and _NO_WORD.search(word) is not None
