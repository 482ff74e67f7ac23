"""Times in the store: the offset of each boot's clock, and records whose times are put right by it.

`timekeeper` is what a running agent makes of its own clock; `boot_offsets` keeps what is known of
each boot; `correction` applies it to blocks on their way out.
"""
