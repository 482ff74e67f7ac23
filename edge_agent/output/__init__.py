"""Records as people and programs get them, and text of others made safe to show.

`render` has JSON and lines of JSON, `csv_rows` CSV, `columnar` Parquet and Arrow; `printable` is
for whatever somebody else has written and somebody here reads.
"""
