"""What everything passes on, and how it is named: records, streams, times, fields.

Pure, and below all else: nothing here asks a clock or a disk.

- `record`: records and runs of them, and whose clock gave their times; `stream_names`: names, and
  the patterns that select them; `clock_note`: how far a clock was off in one boot.
- `moments` and `time_format`: times as people and files write them.
- `field_path`, `field_paths`, `filter`, `conditions`: what of a record is meant, and which are.
- `aggregates` and `measures`: numbers put together, and their units.
"""
