"""Answers to questions about history: what one sees, figures, rows, and how they are written; and
records of a log for who sends them once more.
"""

from edge_agent.history.answers.answer import ANSWER_BYTES_MAX, Answer
from edge_agent.history.answers.reading import HistoryReader, View
from edge_agent.history.answers.recalling import Recaller

__all__ = ["ANSWER_BYTES_MAX", "Answer", "HistoryReader", "Recaller", "View"]
