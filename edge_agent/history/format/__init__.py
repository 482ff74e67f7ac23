"""The format of history on the disk: packed numbers, columns of records, roll-ups."""
