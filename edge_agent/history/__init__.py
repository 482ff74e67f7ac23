"""History keeps what was measured as columns, by stream and time, and answers questions of it.

A log is in order of arrival and is trimmed; history is in order of time and is what one asks. It is
a consumer of every log (`edge_agent.digest`), with a file of its own beside the store. Questions
are answered by a process of their own (`edge_agent.questions.answering`), which reads the file and
knows nothing of the store.

Format
------
::

    PATH/history/data.mdb        LMDB 0.9 format; values end with the CRC-32 of key and value; names
                                 and parts may be sealed (`edge_agent.seal`)
    PATH/history.damaged         the file that was set aside last

    00                           header: format, store, positions in the logs, counts (`stored.py`)
    00 01                        stamp of the commit, as in the store
    01 series u32                name of a stream
    10 hour series part          segment: records as columns (`segment.py`)
    11 hour series part          roll-up by minute (`rollup.py`, `cells.py`)
    12 day series part           roll-up by hour, once the day is over
    13 month series part         roll-ups by hour of 32 days, joined

Keys are big-endian: level u8, bucket u32 (hours or days since 1970, plus 2**31), series u32, part
u16. Time before series, because what is written or forgotten together then lies together
(`keys.py`).

Promises
--------
- A record is in history once, whole: fields, time and whose clock gave it, source and number, seq,
  origin. Its position in the log and its segment commit together.
- Counts, minima, maxima, sums, first and last of integers and decimals are exact in roll-ups,
  however late or out of order records came, as long as a sum fits into 64 bits; behind that they
  are floats. Late ones become further parts of their hour.
- What a flush has written survives a power cut. What was digested and not flushed is digested
  again; the log is acknowledged (consumer ``history``) only behind a flush.
- Days that are over become months (`edge_agent.digest.months`) in the transaction that deletes
  them; what comes late for one lies beside it as further parts of its day, and figures are those of
  both, until there are several and they are joined again.
- A damaged part is left out of an answer, which says so (``damaged``). A damaged file is set aside;
  what can be read back of it, and what the logs still hold, goes on in a new one.

Limits
------
============================= ============== ====================================================
size                          ``share``      of ``store.size``, beside it; the oldest of the finest
                                             level goes first. Less where the disk has less than
                                             256 MiB free
segment                       4,096 records  512 KiB before it is packed
what is digested, not flushed 8 MiB          or half an hour
streams                       50,000         of further ones nothing is kept; counted
fields with roll-ups          64             of each stream and hour
============================= ============== ====================================================

Times are those with which records are read when they are digested. Records of a boot that
has just begun wait in the log for its clock to be set (`edge_agent.digest`).

Nothing here waits, or asks for the time or for chance.
"""

from edge_agent.history.ask import LENGTH_BYTES, Ask, Recall, RecalledBlock, Told
from edge_agent.history.format.cells import (
    Cells,
    cells_of,
    counts_of,
    join_cells,
    units_of,
    within,
)
from edge_agent.history.format.columns import Numbers
from edge_agent.history.format.rollup import (
    all_cells_of,
    cells_of_field,
    decode_rollup,
    encode_rollup,
    encoding_rollup,
    records_in,
)
from edge_agent.history.format.rows import Rows, Way
from edge_agent.history.format.segment import (
    ROWS_MAX,
    HistorySegment,
    Path,
    column_of,
    decode_segment,
    encode_segment,
    join_segments,
    make_segment,
    pack_segment,
    paths_of,
    rows_of,
    times_of,
)
from edge_agent.history.format.stored import (
    HISTORY_FORMAT,
    HistoryHeader,
    checked,
    decode_header,
    read_header,
    read_value,
    scan,
    to_store,
)
from edge_agent.history.question import (
    AGGREGATES,
    PARAMETERS,
    Question,
    is_about_history,
    no_history,
    parse_question,
)

FOLDER = "history"

__all__ = [
    "AGGREGATES",
    "FOLDER",
    "HISTORY_FORMAT",
    "LENGTH_BYTES",
    "PARAMETERS",
    "ROWS_MAX",
    "Ask",
    "Cells",
    "HistoryHeader",
    "HistorySegment",
    "Numbers",
    "Path",
    "Question",
    "Recall",
    "RecalledBlock",
    "Rows",
    "Told",
    "Way",
    "all_cells_of",
    "cells_of",
    "cells_of_field",
    "checked",
    "column_of",
    "counts_of",
    "decode_header",
    "decode_rollup",
    "decode_segment",
    "encode_rollup",
    "encode_segment",
    "encoding_rollup",
    "is_about_history",
    "join_cells",
    "join_segments",
    "make_segment",
    "no_history",
    "pack_segment",
    "parse_question",
    "paths_of",
    "read_header",
    "read_value",
    "records_in",
    "rows_of",
    "scan",
    "times_of",
    "to_store",
    "units_of",
    "within",
]
