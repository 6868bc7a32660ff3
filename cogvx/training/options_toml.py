"""Options in TOML: read strictly, changed by `--set`, and written back so that reading gives the same options."""

import dataclasses
import difflib
import json
import math
import re
import sys
import tomllib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from cogvx.errors import InputError, UsageError

Options = TypeVar("Options")
_MAX_INT = 2**63 - 1
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class _Source:
    """Where values came from, for errors.

    Attributes:
        name: The file.
        lines: Dotted key -> line of the file.
        changes: Dotted key -> the text of the `--set` that gave it.
        root: What is read: its keys are those that an unknown one may have meant.
    """

    name: str
    lines: Mapping[str, int] = field(default_factory=dict)
    changes: Mapping[str, str] = field(default_factory=dict)
    root: type = object

    def place(self, key: str) -> str:
        """Return where a key stands: the `--set`, or file, line and key."""
        for changed, text in self.changes.items():
            below = changed.startswith(f"{key}.") and key not in self.lines
            if key == changed or key.startswith(f"{changed}.") or below:
                return f"--set {text}"
        parts = key.split(".")
        line = next((self.lines[k] for n in range(len(parts), 0, -1) if (k := ".".join(parts[:n])) in self.lines), None)
        return f"{self.name}:{line}" if line else self.name


def read_text(path: Path | str) -> tuple[str, str]:
    """Return the text of a TOML file, and what to call it in errors.

    Args:
        path: The file, a run folder (its recipe.toml), or "-" for stdin.

    Raises:
        InputError: It cannot be read.
        UsageError: It is not UTF-8.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "recipe.toml"
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the recipe {path}: {error.strerror}") from error
    name = "<stdin>" if str(path) == "-" else str(path)
    try:
        return data.decode(), name
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: byte {error.start} is not UTF-8") from error


def parse_options(kind: type[Options], text: str, *, name: str = "recipe.toml", changes: Sequence[str] = ()) -> Options:
    """Return a dataclass of options, with dataclasses as its tables, of a TOML text.

    Args:
        kind: The dataclass.
        text: TOML.
        name: Of the file, for errors.
        changes: `key=value` texts that override it, in order: `optim.lr=1e-4`, `stages.0.steps=10`. Values are TOML;
            what is not TOML is taken as text.

    Raises:
        UsageError: It is no TOML, or a key is unknown or has a value of the wrong type or out of range.
    """
    return _parse(kind, text, name, changes)[0]


def parse_placed(
    kind: type[Options], text: str, *, name: str = "recipe.toml", changes: Sequence[str] = ()
) -> tuple[Options, Callable[[str], str]]:
    """Return what parse_options returns, and a function that tells where a dotted key stands, for errors."""
    options, source = _parse(kind, text, name, changes)
    return options, source.place


def _parse(kind: type[Options], text: str, name: str, changes: Sequence[str]) -> tuple[Options, _Source]:
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{name}: not TOML: {error}") from error
    except ValueError as error:  # a number with more digits than Python reads
        raise UsageError(f"{name}: {error}") from error
    keys: dict[str, str] = {}
    for change in changes:
        keys[_apply(table, change)] = change
    source = _Source(name, _line_numbers(text), keys, kind)
    return _build(kind, table, "", source), source


def dump_options(options: Any) -> str:
    """Return a dataclass of options as TOML, with every field; reading it gives the same options."""
    scalars: list[str] = []
    tables: list[str] = []
    for item in dataclasses.fields(options):
        value = getattr(options, item.name)
        if isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
            tables += [f"[[{item.name}]]\n{_fields(one)}" for one in value]
        elif dataclasses.is_dataclass(value):
            tables.append(_table(item.name, value))
        else:
            scalars.append(f"{item.name} = {_value(value)}\n")
    return "\n".join(["".join(scalars), *tables])


def _table(name: str, options: Any) -> str:
    """Return one table; those inside it that have entries come behind as tables of their own."""
    inner = {item.name: getattr(options, item.name) for item in dataclasses.fields(options)}
    tables = {key: value for key, value in inner.items() if isinstance(value, Mapping) and value}
    parts = [f"[{name}]\n{_fields(options, without=tables)}"]
    for key, value in tables.items():
        lines = "".join(f"{_key(field)} = {_value(item)}\n" for field, item in value.items())
        parts.append(f"[{name}.{key}]\n{lines}")
    return "\n".join(parts)


def _fields(options: Any, *, without: Mapping[str, Any] | Sequence[str] = ()) -> str:
    names = [item.name for item in dataclasses.fields(options) if item.name not in without]
    return "".join(f"{name} = {_value(getattr(options, name))}\n" for name in names)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item) for item in value)}]"
    return repr(value)


def _key(key: str) -> str:
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else _value(key)


def _apply(table: dict[str, Any], change: str) -> str:
    """Put the value of one `--set` into the table and return its dotted key."""
    left, equals, right = change.partition("=")
    try:
        if not equals or "\n" in left:
            raise ValueError
        parts = _key_parts(tomllib.loads(f"{left} = 0"))
    except (ValueError, RecursionError):
        raise UsageError(f"--set {change}: write KEY=VALUE, such as optim.lr=1e-4 or stages.0.steps=10") from None
    place: Any = table
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        if isinstance(place, list):
            if not part.isdecimal() or int(part) >= len(place):
                raise UsageError(f"--set {change}: {'.'.join(parts[:i])} has the entries 0 to {len(place) - 1}")
            key: Any = int(part)
        elif isinstance(place, dict):
            key = part
        else:
            raise UsageError(f"--set {change}: {'.'.join(parts[:i])} is no table")
        if last:
            place[key] = _parse_value(right, change)
        elif isinstance(place, dict):
            place = place.setdefault(key, {})
        else:
            place = place[key]
    return ".".join(parts)


def _key_parts(table: dict[str, Any]) -> list[str]:
    parts = []
    value: Any = table
    while isinstance(value, dict):
        if len(value) != 1:
            raise ValueError
        part, value = next(iter(value.items()))
        parts.append(part)
    return parts


def _parse_value(text: str, change: str) -> Any:
    try:
        table = tomllib.loads(f"value = {text}")
        if len(table) != 1:
            raise ValueError("more than one value")
    except (ValueError, RecursionError) as error:
        if text.lstrip()[:1] in tuple("[{\"'"):
            raise UsageError(f"--set {change}: the value is not TOML: {error}") from error
        return text  # a bare word such as muon: quotes would have to be quoted again for the shell
    return table["value"]


def _build(cls: type, table: Any, key: str, source: _Source) -> Any:
    """Make one dataclass from its table."""
    if not isinstance(table, dict):
        raise UsageError(f"{source.place(key)}: {key} must be a table, got {_shown(table)}")
    known = {item.name: item for item in dataclasses.fields(cls)}
    hints = get_type_hints(cls)
    values = {}
    for name, value in table.items():
        path = f"{key}.{name}" if key else name
        if name not in known:
            raise UsageError(f"{source.place(path)}: unknown key {path}{_nearest(path, key, source.root)}")
        values[name] = _convert(value, hints[name], path, source)
        _limit(values[name], known[name].metadata, path, source)
    for name, item in known.items():
        required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if required and name not in values:
            path = f"{key}.{name}" if key else name
            choices = _choices(hints[name])
            raise UsageError(f"{source.name}: missing key {path}{f' (one of {choices})' if choices else ''}")
    return cls(**values)


def _convert(value: Any, hint: Any, path: str, source: _Source) -> Any:
    """Return a TOML value as the type that a field has."""
    where = source.place(path)
    origin = get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, path, source)
    if origin is Literal:
        if value not in get_args(hint) or not isinstance(value, str):
            near = difflib.get_close_matches(str(value), get_args(hint), n=1)
            hint_text = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"{where}: {path} must be one of {_choices(hint)}, got {_shown(value)}{hint_text}")
        return value
    if origin is tuple:
        return _convert_tuple(value, get_args(hint), path, source)
    if origin in (Mapping, dict) or hint in (Mapping, dict):
        if not isinstance(value, dict):
            raise UsageError(f"{where}: {path} must be a table, got {_shown(value)}")
        return {key: _convert(item, get_args(hint)[1], f"{path}.{key}", source) for key, item in value.items()}
    if hint is Any:
        return _plain(value, path, source)
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX_INT:
        value = float(value)
    good = isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
    if not good or (isinstance(value, float) and not math.isfinite(value)):
        raise UsageError(f"{where}: {path} must be {_WORDS[hint]}, got {_shown(value)}")
    return _plain(value, path, source)


def _convert_tuple(value: Any, items: tuple[Any, ...], path: str, source: _Source) -> tuple[Any, ...]:
    where = source.place(path)
    if items == (str, ...) and isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        raise UsageError(f"{where}: {path} must be a list, got {_shown(value)}")
    if items[-1] is not ... and len(value) != len(items):
        raise UsageError(f"{where}: {path} must have {len(items)} entries, got {_shown(value)}")
    kinds = [items[0]] * len(value) if items[-1] is ... else items
    return tuple(
        _convert(item, kind, f"{path}.{i}", source) for i, (item, kind) in enumerate(zip(value, kinds, strict=True))
    )


def _plain(value: Any, path: str, source: _Source) -> Any:
    """Return a value that the file can hold again: no dates, no halves of characters, no endless integers."""
    if isinstance(value, dict):
        return {key: _plain(item, f"{path}.{key}", source) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, path, source) for item in value]
    fits = isinstance(value, bool | float) or (isinstance(value, int) and abs(value) <= _MAX_INT)
    if isinstance(value, str):
        fits = not re.search("[\0\ud800-\udfff]", value)
    if not fits:
        raise UsageError(f"{source.place(path)}: {path} cannot be {_shown(value)}")
    return value


def _limit(value: Any, limits: Mapping[str, Any], path: str, source: _Source) -> None:
    """Refuse a number, or a list or table with a number, that is out of its field's range."""
    if not limits:
        return
    if isinstance(value, tuple | Mapping):
        for item in value.values() if isinstance(value, Mapping) else value:
            _limit(item, limits, path, source)
        return
    least, most, above = limits["least"], limits["most"], limits["above"]
    if (least is None or value >= least) and (most is None or value <= most) and (above is None or value > above):
        return
    words = [f"at least {least:g}"] if least is not None else [f"above {above:g}"] if above is not None else []
    words += [f"at most {most:g}"] if most is not None else []
    raise UsageError(f"{source.place(path)}: {path} must be {' and '.join(words)}, got {_shown(value)}")


def _line_numbers(text: str) -> dict[str, int]:
    """Return dotted key -> line, as far as a look at each line tells; errors name these lines."""
    lines: dict[str, int] = {}
    table = ""
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\[\s*([\w.\"' -]+?)\s*\]\]", line):
            counts[header[1]] = counts.get(header[1], -1) + 1
            table = f"{header[1]}.{counts[header[1]]}"
            lines.setdefault(table, number)
        elif header := re.match(r"\s*\[\s*([\w.\"' -]+?)\s*\]", line):
            table = header[1]
            lines.setdefault(table, number)
        elif item := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            lines.setdefault(f"{table}.{item[1]}" if table else item[1], number)
    return lines


def _nearest(path: str, table: str, root: type) -> str:
    """Return the known keys that look most like an unknown one: of the same name, in its own table, anywhere."""
    name = path.rpartition(".")[2]
    below = re.sub(r"\.\d+", "", table)
    every = list(_all_keys(root, ""))
    own = [key.rpartition(".")[2] for key in every if key.rpartition(".")[0] == below]
    found = [key.replace("stages.", "stages.0.") for key in every if key.rpartition(".")[2] == name]
    if not found:
        near = difflib.get_close_matches(name, own, n=2, cutoff=0.6)
        found = [f"{table}.{key}" if table else key for key in near]
    found = found or difflib.get_close_matches(path, every, n=2, cutoff=0.7)
    if found:
        return f"; did you mean {' or '.join(found)}?"
    return f"; {table or 'a recipe'} has {', '.join(own)}"


def _all_keys(cls: type, prefix: str) -> typing.Iterator[str]:
    hints = get_type_hints(cls)
    for item in dataclasses.fields(cls):
        key = f"{prefix}.{item.name}" if prefix else item.name
        yield key
        inner = get_args(hints[item.name])[0] if get_origin(hints[item.name]) is tuple else hints[item.name]
        if dataclasses.is_dataclass(inner) and not isinstance(inner, types.GenericAlias):
            yield from _all_keys(typing.cast(type, inner), key)


def _choices(hint: Any) -> str:
    return ", ".join(get_args(hint)) if get_origin(hint) is Literal else ""


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 60 else f"{text[:57]}..."
