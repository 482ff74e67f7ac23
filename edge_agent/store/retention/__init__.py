"""This package removes from logs what may go: by age, by share, and by what consumers need.

`policy` decides on values alone; `trim` removes in transactions of bounded size, and first lets
`edge_agent.store.thinning` do what it can where a log says so.
"""
