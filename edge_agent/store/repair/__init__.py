"""A salvage reads back what can be read of a damaged store, into a new one.

`salvage` runs it; `node_scan` finds what is left in the file, `recover` takes each sound value
once and knows which seqs are missing, `log_ends` says where each log begins and ends.
"""
