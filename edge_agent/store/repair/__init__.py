"""A salvage reads back what can be read of a damaged store, into a new one.

`salvage` runs it; `node_scan` finds what is left in the file, `recover` takes each sound value
once, `missing_seqs` and `log_ends` say what is not there.
"""
