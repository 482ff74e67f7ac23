"""Sliding windows out of panes: each record goes into one pane, each window is merged from panes.

A window of ``length`` panes ends at every pane's end, so that neighbours have most panes in common.
`Panes` merges each of them a few times only, however many belong to a window: panes before a
*bound* (a multiple of the length) are merged backwards from it, once for all windows that reach
across it; panes behind it are merged as they come. A window is one of the former and the latter.

Bounds depend on the panes' numbers alone, so that a restart merges in the same order and its sums
are rounded alike.
"""

from __future__ import annotations

from edge_agent.values.aggregates import FIELDS_MAX, Summary

Fields = dict[str, Summary]
"""The figures of each field; at most `FIELDS_MAX` of them."""


class Panes:
    """The panes of one stream, by number; the numbers are consecutive where nothing is missing."""

    __slots__ = ("_bound", "_front", "_length", "_rear", "_rear_end", "by_number")

    def __init__(self, length: int) -> None:
        self.by_number: dict[int, Fields] = {}
        self._length = length
        self._bound: int | None = None
        #: By number: that pane and all behind it up to the bound, merged.
        self._front: dict[int, Fields] = {}
        #: Panes from the bound to ``_rear_end`` (exclusive), merged.
        self._rear: Fields = {}
        self._rear_end = 0

    def touch(self, number: int) -> None:
        """That pane changes: what was merged of it is not used again."""
        if self._bound is not None and number < self._rear_end:
            self._bound = None

    def window(self, end: int) -> Fields:
        """The panes of the window that ends before pane ``end``; empty where there are none."""
        if self._length == 1:
            return self.by_number.get(end - 1, {})
        bound = end - end % self._length
        if bound != self._bound or end < self._rear_end:
            self._begin(bound)
        for number in range(self._rear_end, end):
            merge_into(self._rear, self.by_number.get(number))
        self._rear_end = end
        merged: Fields = {}
        merge_into(merged, self._front.get(end - self._length))
        merge_into(merged, self._rear)
        return merged

    def _begin(self, bound: int) -> None:
        self._bound = self._rear_end = bound
        self._rear, self._front = {}, {}
        merged: Fields = {}
        for number in range(bound - 1, bound - self._length - 1, -1):
            pane = self.by_number.get(number)
            if pane is not None:
                # In order of time, so that of equal times the later pane's is the last.
                older: Fields = {}
                merge_into(older, pane)
                merge_into(older, merged)
                merged = older
            self._front[number] = merged


def merge_into(fields: Fields, others: Fields | None) -> None:
    """Add ``others``, which stay as they are, field by field; the first fields have room."""
    for field, summary in (others or {}).items():
        known = fields.get(field)
        if known is None:
            if len(fields) >= FIELDS_MAX:
                continue
            known = fields[field] = Summary()
        known.merge(summary)
