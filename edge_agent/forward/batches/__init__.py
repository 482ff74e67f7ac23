"""What a lane sends next: records of the log, in batches.

`open_reader` reads on and forgets, for upstreams that keep the numbers; `planned_reader` keeps to a
`plan`, for those that know a batch by its key.
"""
