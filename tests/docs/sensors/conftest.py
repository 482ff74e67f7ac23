"""The authority and the tokens of the sensors' agent."""

from __future__ import annotations

from tests.end_to_end.conftest import keys

__all__ = ["keys"]
