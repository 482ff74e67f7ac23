"""Answers to questions about history: what one sees, figures, rows, and how they are written."""

from edge_agent.history.answers.answer import ANSWER_BYTES_MAX, Answer
from edge_agent.history.answers.reading import HistoryReader

__all__ = ["ANSWER_BYTES_MAX", "Answer", "HistoryReader"]
