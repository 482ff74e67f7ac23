"""This package is the write transaction: it judges entries, makes blocks, and syncs once.

`transaction` begins it, makes room and ends it; `group` judges the entries in their order, with
`dedup` for repeated numbers, `sources` for whose they are and `positions` for what is no record;
`block_builder` puts the records into blocks. `state` is what the engine remembers between commits.
Calls go down this list only.
"""
