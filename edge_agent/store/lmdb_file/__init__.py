"""This package reads LMDB's file format without LMDB, for files that LMDB must not open.

`preflight` looks at a file before LMDB does; it rests on `meta_pages` (which commit is the newest),
`btree` (whether a tree's pages are sound) and `pages` (one page). Nothing here imports lmdb.
"""
