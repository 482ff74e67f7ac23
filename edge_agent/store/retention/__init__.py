"""This package removes from logs what may go: by age, by share, and by what consumers need.

`policy` decides on values alone; `trim` removes in transactions of bounded size; `thinning` puts
aggregates (`aggregate`) in the place of a full log's oldest records, and leaves alone what
`consumer_guard` names.
"""
