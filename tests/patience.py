"""How long a test waits for what must happen: the one constant for it.

It ends a test that would hang and decides nothing else. What a busy machine makes slow is not
wrong, so it is much longer than anything takes; only a test *of* a deadline sets a shorter one, and
then nothing else may rest on it.
"""

#: Seconds.
PATIENCE_S = 30.0
