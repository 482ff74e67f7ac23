"""Answers to questions about history: what one sees, figures, and how they are written."""

from edge_agent.history.answers.answer import Answer, check_form
from edge_agent.history.answers.reading import HistoryReader

__all__ = ["Answer", "HistoryReader", "check_form"]
