"""Orders of a person to a running agent: what the commands do to a stopped one.

`routes` takes them over HTTP; `orders` and `replay` carry them out.
"""
