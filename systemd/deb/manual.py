"""Man pages and completion, out of the definitions of the commands and the configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import click
from click.shell_completion import get_completion_class

from edge_agent.cli import main
from edge_agent.config import Config, render_toml

PROGRAM = "edge-agent"
#: Where each shell looks for a package's completion.
COMPLETIONS = {
    "bash": f"usr/share/bash-completion/completions/{PROGRAM}",
    "zsh": f"usr/share/zsh/vendor-completions/_{PROGRAM}",
    "fish": f"usr/share/fish/vendor_completions.d/{PROGRAM}.fish",
}
_EXIT = """\
.SH EXIT STATUS
0 done; 1 the command's own "no" (a damaged store, a difference found); 2 wrong usage; 75 the store
is in use; 78 the configuration cannot be used.
"""
_FILES = """\
.SH FILES
.TP
.I /etc/edge\\-agent/edge\\-agent.toml
The configuration: every command but run takes it by itself.
.TP
.I /var/lib/edge\\-agent
The records.
.TP
.I /usr/share/doc/edge\\-agent
The documentation, and the packages that are included with their licences.
"""


def completion(shell: str) -> str:
    """The script that lets ``shell`` ask the program what may come next."""
    found = get_completion_class(shell)
    assert found is not None
    # As a class and not as an object: an object of bash's runs bash, to see its version.
    names = {
        "complete_func": "_edge_agent_completion",
        "complete_var": "_EDGE_AGENT_COMPLETE",
        "prog_name": PROGRAM,
    }
    return found.source_template.strip() % names + "\n"


def pages(epoch: int, version: str) -> dict[str, str]:
    """Name of a file (``edge-agent-config-init.1``) to its text, for every command there is."""
    head = f'"{datetime.fromtimestamp(epoch, UTC):%Y-%m-%d}" "edge\\-agent {version}"'
    made = {}
    for context in _walk(click.Context(main, info_name=PROGRAM)):
        name = context.command_path.replace(" ", "-")
        made[f"{name}.1"] = f'.TH "{_roff(name.upper())}" 1 {head}\n' + _page(context, name)
    made[f"{PROGRAM}.toml.5"] = (
        f'.TH "{_roff(PROGRAM.upper())}.TOML" 5 {head}\n'
        f".SH NAME\n{_roff(PROGRAM)}.toml \\- the configuration of edge\\-agent(1)\n"
        ".SH DESCRIPTION\nEvery key with its default and what it means.\n.PP\n"
        f".nf\n{_roff(render_toml(Config()))}.fi\n"
        ".SH SEE ALSO\n.BR edge\\-agent\\-config (1)\n"
    )
    return made


def _walk(context: click.Context) -> Iterator[click.Context]:
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            assert command is not None
            if not command.hidden:
                yield from _walk(click.Context(command, info_name=name, parent=context))


def _page(context: click.Context, name: str) -> str:
    command = context.command
    help_text = re.sub(r"^\x08\n", "", command.help or "", flags=re.MULTILINE)
    first, _, rest = help_text.partition("\n\n")
    usage = " ".join(command.collect_usage_pieces(context))
    text = f".SH NAME\n{_roff(name)} \\- {_roff(' '.join(first.split()).rstrip('.'))}\n"
    text += f".SH SYNOPSIS\n.B {_roff(context.command_path)}\n{_roff(usage)}\n"
    text += ".SH DESCRIPTION\n" + "\n.PP\n".join(
        _roff("\n".join(line.strip() for line in each.splitlines()))
        for each in [first, *rest.split("\n\n")]
        if each
    )
    text += "\n.SH OPTIONS\n"
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            text += f".TP\n.B {_roff(record[0])}\n{_roff(record[1]) or 'Yes or no.'}\n"
    see = [context.parent.command_path] if context.parent is not None else []
    if isinstance(command, click.Group):
        text += ".SH COMMANDS\n"
        for sub in command.list_commands(context):
            found = command.get_command(context, sub)
            assert found is not None
            if not found.hidden:
                text += f".TP\n.BR {_roff(f'{name}-{sub}')} (1)\n"
                text += f"{_roff(found.get_short_help_str(limit=200))}\n"
    if not see:
        text += _EXIT + _FILES
    see = [each.replace(" ", "-") for each in see]
    refs = ",\n".join(f".BR {_roff(each)} (1)" for each in see)
    return text + f".SH SEE ALSO\n{refs + chr(10) if refs else ''}.BR edge\\-agent.toml (5)\n"


def _roff(text: str) -> str:
    """Text that groff prints as it stands: no line of it is a request, a dash is one to copy."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=[.'])", r"\\&", text, flags=re.MULTILINE)
