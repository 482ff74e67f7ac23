"""This package keeps the offset of each boot's clock, and puts records' times right by it.

`timekeeper` is what a running agent makes of its own clock; `boot_offsets` keeps what is known of
each boot; `correction` applies it to blocks on their way out.
"""
