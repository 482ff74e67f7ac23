"""The copyright file: who wrote what is inside, under which licence, with its text."""

from __future__ import annotations

import re
from collections.abc import Iterable

from systemd.deb.sbom import STATIC
from systemd.deb.wheels import Wheel

#: Texts that every Debian has, by the words that begin their bodies.
_COMMON = {
    "Apache-2.0": re.compile(r"TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION"),
    "MPL-2.0": re.compile(r"^Mozilla Public License Version 2\.0", re.MULTILINE),
}
_PAPER = re.compile(r"(^|/)(LICEN[CS]E|COPYING|NOTICE|AUTHORS)[^/]*$", re.IGNORECASE)
_HEAD = """\
edge_agent, whose wheel is called trio-edge-agent

Copyright: the edge_agent maintainers
Licence: Apache-2.0, whose text is /usr/share/common-licenses/Apache-2.0

The package includes the following libraries, below
/usr/lib/edge-agent/lib, as their authors' wheels have them.
"""


def copyright_of(others: Iterable[Wheel]) -> str:
    """The whole file."""
    page = (STATIC / "uplot.LICENSE.txt").read_text().strip()
    return _HEAD + "".join(map(_part, others)) + _entry("uplot, on the page, licence: MIT", [page])


def _part(wheel: Wheel) -> str:
    title = f"{wheel.name} {wheel.version}, licence: {wheel.licence}"
    texts = [_text(wheel, name) for name in sorted(wheel.papers()) if _PAPER.search(name)]
    if not texts:
        texts = [
            f"Its wheel has no text of it. By {wheel.metadata['Author-Email'] or 'its authors'}."
        ]
    return _entry(title, texts)


def _entry(title: str, texts: list[str]) -> str:
    line = "=" * len(title)
    return f"\n{line}\n{title}\n{line}\n\n" + "\n\n".join(texts) + "\n"


def _text(wheel: Wheel, name: str) -> str:
    text = wheel.text(name.partition(".dist-info/")[2]).strip()
    for licence, words in _COMMON.items():
        if words.search(text):
            kept = "\n".join(re.findall(r"^\s*(Copyright (?:\(c\)|\d{4}).*)", text, re.MULTILINE))
            return f"{kept}\n{licence}: /usr/share/common-licenses/{licence}".strip()
    return text
