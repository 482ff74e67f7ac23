"""What is to come: how long the room and the card last, and when a backlog is drained.

`capacity` is the arithmetic; `projections` samples positions over time; `sentences` says it.
"""
