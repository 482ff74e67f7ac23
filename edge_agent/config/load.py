"""Loading: a TOML file, the environment and the command line become one checked `Config`.

Later ones win: defaults, file, ``EDGE_AGENT__SECTION__KEY``, command line. Inside, all three speak
of dotted keys: ``store.size``, ``log.main.keep``, ``upstream.hub.url`` (upstreams and rules by
their name). Every key is converted on its own, so that an error can name where it came from, the
key, what was expected and what was found.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec
from msgspec import Struct
from msgspec.structs import FieldInfo, fields

from edge_agent.config.check import problems
from edge_agent.config.quantities import Duration, Share, Size
from edge_agent.config.shape import Config, LogConfig, Rule
from edge_agent.config.units import parse_duration, parse_share, parse_size
from edge_agent.config.upstreams import Upstream
from edge_agent.errors import ConfigError
from edge_agent.system.files import refuse_pipes

_HEADING = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"\s*([A-Za-z0-9_\-.\"']+)\s*=\s*(.*)$")
_TEXT = re.compile(r"[\"'](.*?)[\"']")
_LONG = ('"""', "'''")


def key_lines(text: str) -> dict[str, int]:
    """Dotted key to its line, from 1; tables too. ``[[upstream]]`` tables are found by their name,
    and by their place, ``upstream[0]``.

    Only for people, as `tomllib` does not tell: a file that is written in an unusual way (quoted
    keys, tables within one line) may get the line of its table, and no file another meaning.
    """
    found: dict[str, int] = {}
    names: dict[str, str] = {}
    counts: dict[str, int] = {}
    table, until = "", ""
    for number, line in enumerate(text.splitlines(), 1):
        if until:
            until = "" if until in line else until
            continue
        if heading := _HEADING.match(line):
            table = _plain(heading[2])
            if heading[1] == "[[":
                place = counts.get(table, 0)
                counts[table] = place + 1
                table = f"{table}[{place}]"
            elif (first := table.partition(".")[0]) in counts:
                # [upstream.mqtt] belongs to the [[upstream]] above it.
                table = f"{first}[{counts[first] - 1}]{table.removeprefix(first)}"
            found.setdefault(table, number)
        elif given := _KEY.match(line):
            key = ".".join(filter(None, (table, _plain(given[1]))))
            found.setdefault(key, number)
            if given[1] == "name" and (name := _TEXT.match(given[2])):
                names[table] = f"{table.partition('[')[0]}.{name[1]}"
            until = next((mark for mark in _LONG if given[2].count(mark) % 2), "")
    for key, number in list(found.items()):
        own = next((one for one in names if key == one or key.startswith(f"{one}.")), None)
        if own is not None:
            found[names[own] + key[len(own) :]] = number
    return found


def line_of(key: str, lines: dict[str, int]) -> int | None:
    """The line of ``key``, or of the nearest table that it belongs to; None where there is none."""
    while key:
        if key in lines:
            return lines[key]
        key = key.rpartition(".")[0]
    return None


def _plain(key: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in key.split("."))


ENVIRONMENT_PREFIX = "EDGE_AGENT__"

#: Tables that hold further tables by name. In TOML, upstreams and rules are arrays with ``name``.
_GROUPS: dict[str, type[Struct]] = {"log": LogConfig, "upstream": Upstream, "rule": Rule}
_UNITS: dict[type, Callable[[object], Any]] = {
    Duration: parse_duration, Size: parse_size, Share: parse_share
}  # fmt: skip
#: msgspec's words for types, as a person who edits TOML says them.
_WORDS = {
    "int": "a whole number", "float": "a number", "str": 'text in "quotes"',
    "bool": "true or false", "array": 'a list such as ["a", "b"]', "object": "a table",
}  # fmt: skip
#: For keys without a default, while other mistakes are looked for: fits whatever stands beside it.
_STAND_INS = {"name": "x", "url": "https://x", "streams": ("**",)}
_HEADERS = '{ NAME = "value" } or { NAME = { file = "PATH" } }'

Tree = dict[str, Any]
Where = Callable[[str], str]


def load_config(
    path: Path | None, *, env: Mapping[str, str], overrides: Mapping[str, object]
) -> Config:
    """Read the file at ``path`` (None: defaults alone), then ``env``, then ``overrides``.

    ``overrides`` maps dotted keys to text as on a command line, or to ready values. Variables
    without the prefix ``EDGE_AGENT__`` are none of ours; an unknown one with it is an error.

    Raises:
        ConfigError: names the file with its line, the variable or option, the key, what was
            expected and found; for every mistake that there is.
    """
    config, wrong = examine(path, env=env, overrides=overrides)
    wrong.raise_all()
    return config


def examine(
    path: Path | None, *, env: Mapping[str, str], overrides: Mapping[str, object]
) -> tuple[Config, ConfigMistakes]:
    """As `load_config`, for whoever looks for further mistakes: what is wrong already, and a
    configuration in which something stands for that.

    Raises:
        ConfigError: the file cannot be read, or is no TOML.
    """
    where = "defaults" if path is None else str(path)
    text = "" if path is None else _read(path)
    tree = _decode(text, where)
    settings: list[tuple[list[str], object, str]] = [
        (name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"), value, f"environment: {name}")
        for name, value in sorted(env.items())
        if name.startswith(ENVIRONMENT_PREFIX)
    ]
    settings += [(key.split("."), value, "command line") for key, value in overrides.items()]
    return _build(tree, where, settings, key_lines(text))


def parse(text: str, where: str) -> Config:
    """The configuration in ``text``; ``where`` stands for the file's name in errors.

    Raises:
        ConfigError: as `load_config`, without lines.
    """
    config, wrong = _build(_decode(text, where), where, [], {})
    wrong.raise_all()
    return config


def _read(path: Path) -> str:
    try:
        refuse_pipes(path)
        # Some editors begin a file with a byte order mark, which is none of TOML's.
        return path.read_text(encoding="utf-8").removeprefix("\ufeff")
    except OSError as error:
        raise ConfigError(str(path), "a readable file", error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), "UTF-8 text", f"byte {error.start} that is not") from None


def _decode(text: str, where: str) -> Tree:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Its own TOMLDecodeError is one; a number of 5,000 digits is another.
        raise ConfigError(where, "TOML", f"a mistake: {error}") from None


def _by_name(tables: object, group: str, where: Where, wrong: ConfigMistakes) -> Tree:
    """The tables of an array by their names; one without a name of its own is left out."""
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(where(group), f"tables headed [[{group}]]", _show(tables))
    named: Tree = {}
    for index, table in enumerate(tables):
        name, key = table.get("name"), f"{group}[{index}].name"
        with wrong.noted(key):
            if not isinstance(name, str):
                found = "nothing" if name is None else _show(name)
                raise ConfigError(where(key), _WORDS["str"], found)
            if name in named:
                # Which of them is meant? Neither is looked into.
                del named[name]
                raise ConfigError(where(key), "a name of its own", f"{name!r} twice")
            named[name] = table
    return named


def _build(
    tree: Tree, file: str, settings: list[tuple[list[str], object, str]], lines: dict[str, int]
) -> tuple[Config, ConfigMistakes]:
    origins: dict[str, str] = {}

    def where(key: str) -> str:
        line = line_of(key, lines) if key not in origins else None
        return f"{origins.get(key, file)}{f', line {line}' if line else ''}: {key}"

    wrong = ConfigMistakes(lines)
    for group in ("upstream", "rule"):
        tables = tree.pop(group, [])
        with wrong.noted(group):
            tree[group] = _by_name(tables, group, where, wrong)
    for parts, value, origin in settings:
        with wrong.noted(".".join(parts)):
            key = _put(tree, parts, value, origin)
            origins[key] = origin
    sections: Tree = {}
    known = {field.name: field for field in fields(Config)}
    for name, value in tree.items():
        with wrong.noted(name):
            _known(name, known, name, where)
            sections[name] = _section(name, value, known[name].type, where, wrong)
    if "main" not in sections.get("log", {"main": None}):
        sections["log"]["main"] = LogConfig()
    config = Config(**sections)
    more: list[tuple[str, ConfigError]] = []
    # A default stands in for what could not be read; what is said of that is no mistake of its own.
    for error, keys in problems(config, where):
        if not any(map(wrong.touches, keys)):
            more.append((keys[0], error))
    for key, error in more:
        wrong.add(key, error)
    return config, wrong


def _section(name: str, value: object, kind: Any, where: Where, wrong: ConfigMistakes) -> Any:
    if name in _GROUPS:
        built = {}
        for key, table in _table(value, name, where).items():
            with wrong.noted(f"{name}.{key}"):
                built[key] = _struct(_GROUPS[name], table, f"{name}.{key}", where, wrong)
        return built if name == "log" else tuple(built.values())
    if _is_struct(kind):
        return _struct(kind, value, name, where, wrong)
    return _value(value, kind, name, where)


class ConfigMistakes:
    """What is wrong so far, and at which keys."""

    def __init__(self, lines: dict[str, int]) -> None:
        self._lines = lines
        self._found: list[tuple[int, ConfigError]] = []
        self._keys: list[str] = []

    @contextmanager
    def noted(self, key: str) -> Iterator[None]:
        """A ConfigError within is noted for ``key``, and passes no further."""
        try:
            yield
        except ConfigError as error:
            self.add(key, error)

    def add(self, key: str, error: ConfigError) -> None:
        """Note ``error``, which is about ``key``."""
        self._found.append((line_of(key, self._lines) or 0, error))
        self._keys.append(key)

    def touches(self, key: str) -> bool:
        """Whether ``key``, a table that it belongs to or a key of it is wrong already."""
        return any(
            f"{key}.".startswith(f"{one}.") or f"{one}.".startswith(f"{key}.") for one in self._keys
        )

    def raise_all(self) -> None:
        """Raises ConfigError that tells every one, in the order of the file, if there are any."""
        if self._found:
            raise ConfigError.of(self._sorted())

    def told(self) -> list[str]:
        """Each of them in words, in that order."""
        return list(dict.fromkeys(map(str, self._sorted())))

    def _sorted(self) -> list[ConfigError]:
        return [error for _, error in sorted(self._found, key=itemgetter(0))]


def _put(tree: Tree, parts: list[str], value: object, origin: str) -> str:
    """Set one dotted key in ``tree``; text is brought into its type's form. Returns the key."""
    known = {field.name: field for field in fields(Config)}
    dotted = ".".join(parts)
    inner = _inner_table(parts)
    if parts[0] in _GROUPS and (len(parts) == 3 or inner is not None):
        group = tree.setdefault(parts[0], {})
        parts[1] = _existing(parts[1], group)
        table = group.setdefault(parts[1], {})
        if parts[0] != "log":
            table.setdefault("name", parts[1])
        owner: type[Struct] = _GROUPS[parts[0]]
        if inner is not None:
            table, owner = table.setdefault(parts[2], {}), inner
    elif parts[0] in known and parts[0] not in _GROUPS and len(parts) == 2:
        table, owner = tree.setdefault(parts[0], {}), known[parts[0]].type
    elif parts[0] in known and len(parts) == 1:
        table, owner = tree, Config
    else:
        raise ConfigError(f"{origin}: {dotted}", "SECTION.KEY as in the file", "no such key")
    key = ".".join(parts)
    members = {field.name: field for field in fields(owner)} if _is_struct(owner) else {}
    _known(parts[-1], members, key, lambda name: f"{origin}: {name}")
    if isinstance(table, dict):
        table[parts[-1]] = _from_text(value, members[parts[-1]].type)
    return key


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _inner(kind: Any) -> type[Struct] | None:
    """The struct that a key's table is, where it is one."""
    parts = get_args(kind) if get_origin(kind) in (Union, UnionType) else ()
    return next((part for part in parts if _is_struct(part)), None)


def _inner_table(parts: list[str]) -> type[Struct] | None:
    """The struct of a table within a table that a key belongs to: ``upstream.NAME.mqtt.topic``."""
    if len(parts) != 4 or parts[0] not in _GROUPS:
        return None
    members = {field.name: field for field in fields(_GROUPS[parts[0]])}
    return _inner(members[parts[2]].type) if parts[2] in members else None


def _existing(name: str, group: object) -> str:
    """The name in ``group`` that a variable means: variables know no case and no dashes."""
    folded = re.sub(r"[^a-z0-9]", "_", name.lower())
    for known in group if isinstance(group, dict) else ():
        if known == name or re.sub(r"[^a-z0-9]", "_", known.lower()) == folded:
            return str(known)
    return name


def _from_text(value: object, kind: Any) -> object:
    """Text from a variable or the command line in the form that TOML would have given it."""
    if not isinstance(value, str):
        return value
    kinds = [part for part in get_args(kind) or (kind,) if part is not type(None)]
    if get_origin(kind) is tuple:
        kinds = [kind]
    if value == "" and type(None) in get_args(kind):
        return None
    inner = _inner(kind)
    if inner is not None or any(get_origin(part) is dict for part in kinds):
        pairs = [pair.partition("=") for pair in value.split(",")]
        table = {old.strip(): new.strip() for old, _, new in pairs}
        members = {field.name: field.type for field in fields(inner)} if inner else {}
        return {key: _from_text(text, members.get(key, str)) for key, text in table.items()}
    if any(get_origin(part) is tuple for part in kinds) and value != "record":
        return [part.strip() for part in value.split(",") if part.strip()]
    if kinds[0] in (bool, int, float):
        try:
            return msgspec.convert(value, kinds[0], strict=False)
        except msgspec.ValidationError:
            return value  # the ordinary conversion says what is wrong with it
    return value


def _struct(
    kind: type[Struct], table: object, prefix: str, where: Where, wrong: ConfigMistakes
) -> Any:
    members = {field.name: field for field in fields(kind)}
    values = {}
    for key, value in _table(table, prefix, where).items():
        with wrong.noted(f"{prefix}.{key}"):
            _known(key, members, f"{prefix}.{key}", where)
            inner = _inner(members[key].type)
            if inner is None:
                values[key] = _value(value, members[key].type, f"{prefix}.{key}", where)
            else:
                values[key] = _struct(inner, value, f"{prefix}.{key}", where, wrong)
    for member in members.values():
        if member.required and member.name not in values:
            key = f"{prefix}.{member.name}"
            if not wrong.touches(key):
                wrong.add(key, ConfigError(where(key), "this key", "nothing"))
            values[member.name] = _STAND_INS[member.name]
    return kind(**values)


def _table(value: object, key: str, where: Where) -> Tree:
    if not isinstance(value, dict):
        raise ConfigError(where(key), "a table", _show(value))
    return value


def _value(value: object, kind: Any, key: str, where: Where) -> Any:
    if _has_nul(value):
        # No path, address or name can have it; the system's calls would say so with a traceback.
        raise ConfigError(where(key), "text without the character 0", "one with it")
    try:
        return msgspec.convert(value, kind, dec_hook=_with_unit)
    except msgspec.ValidationError as error:
        expected = str(error.__cause__ or error)
        if match := re.match(r"Expected `(.*?)`, got", expected):
            words = [_WORDS.get(word, word) for word in match[1].split(" | ") if word != "null"]
            expected = " or ".join(words)
        elif expected.startswith("Invalid enum value"):
            expected = "one of " + ", ".join(f'"{choice}"' for choice in _choices(kind))
        if key.endswith(".headers"):
            # Not what was found: it may be a secret.
            raise ConfigError(where(key), _HEADERS, "something else") from None
        raise ConfigError(where(key), expected, _show(value)) from None


def _has_nul(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_has_nul, (*value, *value.values())))
    if isinstance(value, list):
        return any(map(_has_nul, value))
    return isinstance(value, str) and "\0" in value


def _with_unit(kind: type, value: object) -> Any:
    return value if isinstance(value, kind) else _UNITS[kind](value)


def _choices(kind: Any) -> list[str]:
    if isinstance(kind, str):
        return [kind]
    return [choice for part in get_args(kind) for choice in _choices(part)]


def _known(name: str, members: Mapping[str, FieldInfo], key: str, where: Where) -> None:
    if name in members:
        return
    close = difflib.get_close_matches(name, members, n=1)
    expected = f'"{close[0]}" (did you mean that?)' if close else "one of " + ", ".join(members)
    raise ConfigError(where(key), expected, f'the unknown key "{name}"')


def _show(value: object) -> str:
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    shown = shown.lower() if isinstance(value, bool) else shown
    return shown if len(shown) <= 80 else shown[:77] + "..."
