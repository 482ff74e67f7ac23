"""One write transaction: entries are judged, become blocks, and are committed with one sync.

`transaction` begins it, makes room and ends it; `group` judges the entries in their order, with
`dedup` for repeated numbers, `sources` for whose they are and `positions` for what is no record;
`block_builder` puts the records into blocks. `state` is what the engine remembers between commits.
Calls go down this list only.
"""
