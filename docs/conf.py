"""How `make docs` makes a site of these pages: Sphinx, with its plain theme, and Markdown by MyST.

Why Sphinx: it makes the reference of the client library out of its docstrings by itself, checks
links, anchors and cross references (`-W` makes each a failure), needs no network when it builds or
when its pages are read, and has been looked after since 2008. The pages stay Markdown that any
forge shows; what only the site has (the menu, the reference) is put in here.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
# What is documented is this checkout, whatever else is installed.
sys.path.insert(0, str(ROOT))

from edge_agent import __version__, client  # noqa: E402 - found by the line above

project = "edge_agent"
version = release = __version__
copyright = "the edge_agent maintainers"  # noqa: A001 - Sphinx calls it that
root_doc = "docs/index"

_CLIENT = "edge_agent/client/README.md"
_WALKED = (
    "README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md",
    "docs", "benchmarks", "edge_agent",
)  # fmt: skip
include_patterns = ["*.md", "docs/*.md", "docs/sensors/*.md", "benchmarks/*.md", _CLIENT]
# Environments, caches and code are not even walked through.
exclude_patterns = [each.name for each in ROOT.iterdir() if each.name not in _WALKED]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 4
# Of a language that it does not know, such as csv, an example is shown without colours.
suppress_warnings = ["misc.highlighting_failure"]
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
maximum_signature_line_length = 80

html_theme = "alabaster"
html_theme_options = {
    "description": "What it acknowledges is on the card.",
    "fixed_sidebar": True,
    "page_width": "64rem",
    "show_powered_by": False,
}
html_show_sourcelink = False
html_copy_source = False

#: What autodoc writes below the heading "Reference" of docs/client.md.
_REFERENCE = "\n".join(
    [
        "\n```{eval-rst}",
        *(
            f".. autoclass:: edge_agent.client.{name}\n   :members:\n   :exclude-members: __new__\n"
            for name in client.__all__
        ),
        ".. autodata:: edge_agent.client.reports.TroubleKind",
        "   :no-value:",
        "```\n",
    ]
)


def _menu(index: str) -> str:
    """The pages that docs/index.md lists, in its order, as the site's menu."""
    listed = re.findall(r"\]\(([\w./-]+)\.md\)", index)
    return "\n".join(["\n```{toctree}", ":hidden:", "", *listed, "```\n"])


def _add_what_only_the_site_has(_app: Any, page: str, source: list[str]) -> None:
    if page == root_doc:
        source[0] += _menu(source[0])
    elif page == "docs/client":
        source[0] += _REFERENCE


def _lead_to_the_index(app: Any, error: Exception | None) -> None:
    if error is None:
        text = '<meta http-equiv="refresh" content="0; url=docs/index.html">\n'
        (Path(app.outdir) / "index.html").write_text(text)


def setup(app: Any) -> None:
    """Sphinx calls it."""
    app.connect("source-read", _add_what_only_the_site_has)
    app.connect("build-finished", _lead_to_the_index)
