"""What the machine underneath gives: files, disks, clocks, the journal.

`files` opens and writes where other users work, too; `block_device` finds the disk under a folder;
`clock` offers no time without saying whether it can be trusted; `journal_tail` keeps
the last lines.
"""
