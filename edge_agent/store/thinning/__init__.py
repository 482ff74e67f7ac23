"""Thinning: what a full log with ``thin-oldest`` does before it discards records.

Nobody imports what lies behind this door.

- `aggregate`: what blocks become: a record for each source, stream and minute. Pure.
- `thinner`: when, and how much at a time; it replaces blocks in the log.
- `consumer_guard`: which blocks stay as they are, because a consumer may have a part of them.
- `handing_out`: what a consumer is given of a block that was thinned. Pure.

Chosen were (`docs/architecture.md` says what was not, and why):

- A thinned block is one block that covers the seqs of those it replaces, and no block with a gap
  before it. A reader so never stands between the two, where nobody could tell whether it has had
  the records or is owed the aggregates; and who reads on meets no hole.
- Records that stay keep their seqs, and so their stable ids. An aggregate has the seq of the last
  record that it stands for; ids that leave the agent add a checksum of what it says
  (``forward/sinks/http/body.py``), so that no id ever stands for two contents.
- A foreign block keeps its origin, path and clocks. Blocks of different origins do not become one,
  so that little is gained where those of several agents come by turns.
- Nobody is given an aggregate of records that it may have had: a consumer whose position lies
  within a thinned block is told that the rest was thinned, and how much that is gets counted.
"""

from edge_agent.store.thinning.consumer_guard import HandedOut
from edge_agent.store.thinning.handing_out import (
    as_owed,
    cut_beside,
    thinned_numbers,
    whole_ranges,
    withheld_numbers,
)
from edge_agent.store.thinning.thinner import CROWDED, Thinner

__all__ = [
    "CROWDED",
    "HandedOut",
    "Thinner",
    "as_owed",
    "cut_beside",
    "thinned_numbers",
    "whole_ranges",
    "withheld_numbers",
]
