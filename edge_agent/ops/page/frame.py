"""The frame of each page: head, landmarks, the policy that allows only what is our own.

Nothing comes from elsewhere, as the policy in `CSP` enforces: style and script are files of this
agent (`files`), so that a word that slipped through unescaped could still not run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edge_agent.ops.page.files import path_of
from edge_agent.printable import html_text

#: Only this agent's own files, only requests to it, in nobody's frame.
CSP = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
#: A form of ours is sent with the page's origin, which "no-referrer" would keep back.
HEADERS = {"Content-Security-Policy": CSP, "Referrer-Policy": "same-origin"}
_FOOT = (
    'As data: <a href="/api/status">status</a>, <a href="/api/streams">streams</a>,'
    ' <a href="/api/query?limit=20">the last records</a>, <a href="/metrics">metrics</a>,'
    ' <a href="/healthz">health</a>.'
)
LOGOUT = '<form method="post" action="/logout"><button>Sign out</button></form>'


def document(
    kind: str,
    title: str,
    header: str,
    main: str,
    *,
    modules: Sequence[str],
    scripts: Sequence[str] = (),
    styles: Sequence[str] = ("page.css",),
    attributes: str = "",
    foot: str = "",
    reload: bool = False,
) -> bytes:
    """The whole document; ``header``, ``main``, ``attributes`` of main and ``foot`` are HTML.

    ``kind`` tells the script which page it is. Of ``modules`` the first runs, the others are what
    it imports; ``scripts`` run before it. ``foot`` stands before the links to the data. With
    ``reload`` a browser without script loads it again and again.
    """
    again = '<noscript><meta http-equiv="refresh" content="5"></noscript>' if reload else ""
    first, *others = modules
    files = [f'<link rel="stylesheet" href="{path_of(name)}">' for name in styles]
    files += [f'<script defer src="{path_of(name)}"></script>' for name in scripts]
    files += [f'<link rel="modulepreload" href="{path_of(name)}">' for name in others]
    files.append(f'<script type="module" src="{path_of(first)}"></script>')
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'{again}<title>{html_text(title)}</title><link rel="icon" href="{path_of("icon.svg")}">'
        f'{"".join(files)}</head><body data-page="{kind}">'
        f'<a class="skip" href="#main">To the content</a>{header}'
        f'<main id="main" tabindex="-1"{attributes}>{main}</main>'
        f"<footer>{foot}{_FOOT}</footer></body></html>\n"
    ).encode()


def section(name: str, title: str, inside: str, *, soft: str = "") -> str:
    """A part of a page that is kept fresh, with its heading; ``inside`` is HTML."""
    more = f" <span class=soft>{soft}</span>" if soft else ""
    return (
        f'<section id="{name}" data-fresh aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title">{title}{more}</h2>{inside}</section>'
    )


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: set[int],
    texts: frozenset[int] | set[int] = frozenset(),
) -> str:
    """Cells are HTML already; ``numbers`` and ``texts`` are columns, counted from 0."""

    def kind(index: int) -> str:
        return ' class="n"' if index in numbers else ' class="text"' if index in texts else ""

    lines = [
        "<tr>" + "".join(f"<td{kind(i)}>{cell}</td>" for i, cell in enumerate(row)) + "</tr>"
        for row in rows
    ]
    if not lines:
        return "<p class=soft>None.</p>"
    return whole_table(
        "".join(f'<th scope="col"{kind(i)}>{c}</th>' for i, c in enumerate(head)), lines
    )


def whole_table(head: str, lines: Iterable[str]) -> str:
    """A table of cells and lines that are HTML; what is too wide is moved inside of it, by keyboard
    too.
    """
    return (
        f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )
