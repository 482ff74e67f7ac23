"""What may be removed from a log, and removing it: by age, share and what consumers still need.

`policy` decides on values alone; `trim` removes in transactions of bounded size; `thinning` puts
aggregates (`aggregate`) in the place of a full log's oldest records, and leaves alone what
`consumer_guard` names.
"""
