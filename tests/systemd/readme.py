"""The commands of a chapter of README or of a page of docs/, exactly as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def commands(chapter: str, language: str = "sh", page: Path = ROOT / "README.md") -> list[str]:
    """The fenced blocks of that language in the chapter headed ``## chapter``, in order."""
    text = page.read_text()
    body = re.split(r"^## ", text.split(f"\n## {chapter}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[
        0
    ]
    return re.findall(rf"^```{language}\n(.*?)^```$", body, re.MULTILINE | re.DOTALL)
