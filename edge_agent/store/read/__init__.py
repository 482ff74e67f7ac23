"""Reading within one read transaction: blocks and gaps from a position on, and figures."""
