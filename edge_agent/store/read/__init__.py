"""This package reads within one read transaction: blocks and gaps, and figures."""
