"""The frame of each page: head, landmarks, the policy that allows only what is our own.

Nothing comes from elsewhere, as the policy in `CSP` enforces: style and script are files of this
agent (`files`), so that a word that slipped through unescaped could still not run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edge_agent.ops.page.files import path_of
from edge_agent.output.printable import html_text

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
#: What is kept fresh can be stopped; ``fresh`` says where nothing comes any more.
PAUSE = (
    '<span id="fresh" role="status"></span> <button type="button" id="pause" hidden>'
    "Stop refreshing</button>"
)
LOGOUT = '<form method="post" action="/logout"><button>Sign out</button></form>'


def document(
    kind: str,
    title: str,
    header: str,
    main: str,
    *,
    module: str,
    scripts: Sequence[str] = (),
    style: str = "page.css",
    asked: Sequence[str] = (),
    attributes: str = "",
    foot: str = "",
) -> bytes:
    """The whole document; ``header``, ``main``, ``attributes`` of main and ``foot`` are HTML.

    ``kind`` tells the script which page it is. ``scripts`` run before ``module``. ``asked`` is what
    that will ask of the agent at once. ``foot`` stands before the links to the data.
    """
    files = [f'<link rel="stylesheet" href="{path_of(style)}">']
    # As `fetch` asks it, or the browser would ask twice.
    files += [
        f'<link rel="preload" as="fetch" crossorigin href="{html_text(path)}">' for path in asked
    ]
    files += [f'<script defer src="{path_of(name)}"></script>' for name in scripts]
    files.append(f'<script type="module" src="{path_of(module)}"></script>')
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{html_text(title)}</title><link rel="icon" href="{path_of("icon.svg")}">'
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
    section_name: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: set[int],
    texts: frozenset[int] | set[int] = frozenset(),
) -> str:
    """The table of a section. Cells are HTML already; ``numbers`` and ``texts`` are columns,
    counted from 0. Of ``texts``, which are wide, those that are empty in all rows are left out.
    """
    cells = list(rows)
    if not cells:
        return "<p class=soft>None.</p>"
    columns = range(len(head))
    classes = ["n" if i in numbers else "text" if i in texts else "" for i in columns]
    shown = [i for i in columns if i not in texts or any(row[i] for row in cells)]
    body = f"<tbody>{table_rows(cells, classes, shown)}</tbody>"
    return whole_table(section_name, table_head(head, classes, shown), body)


def table_head(titles: Sequence[str], classes: Sequence[str], shown: Sequence[int]) -> str:
    """The row of titles of those columns that are ``shown``."""
    return "".join(f'<th scope="col"{_class(classes[i])}>{titles[i]}</th>' for i in shown)


def table_rows(rows: Iterable[Sequence[str]], classes: Sequence[str], shown: Sequence[int]) -> str:
    """Rows of cells; the first says what a row is about, and a screen reader repeats it with each
    other of the row.
    """
    first, *others = shown
    return "".join(
        f'<tr><th scope="row"{_class(classes[first])}>{row[first]}</th>'
        + "".join(f"<td{_class(classes[i])}>{row[i]}</td>" for i in others)
        + "</tr>"
        for row in rows
    )


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def whole_table(section_name: str, head: str, bodies: str) -> str:
    """A table of HTML that is named by the heading of its section; what is too wide is moved inside
    of it, by keyboard too.
    """
    named = f'aria-labelledby="{section_name}-title"'
    return (
        f'<div class="wide" tabindex="0" role="group" {named}><table {named}>'
        f"<thead><tr>{head}</tr></thead>{bodies}</table></div>"
    )
