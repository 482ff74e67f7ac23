"""How history lies on the disk: packed numbers, records as columns, roll-ups by minute and hour."""
