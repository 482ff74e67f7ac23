"""This package has what is done to a whole store: check, scrub, backup, rewrite, replace.

`rewrite` copies a store value by value, with the `changes` that are asked for; backup, compaction,
restoring (`replace`) and erasing (`erase`) are made of it. `check` and what is named after it are a
second opinion that shares as little as possible with the writer.
"""
