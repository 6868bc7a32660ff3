"""What a stage of the data pipeline is: an item in, entries out."""

import hashlib
import json
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cogvx.data.manifest import Entry, format_entry, parse_entry
from cogvx.data.paths import relative_to
from cogvx.errors import CogvxError, InputError, MissingError, RefusedError, UsageError
from cogvx.files import disk_errors

_ERRORS: dict[int, type[CogvxError]] = {
    kind.exit_code: kind for kind in (UsageError, InputError, MissingError, RefusedError)
}


@dataclass(frozen=True)
class Item:
    """One entry that a stage works on.

    Attributes:
        id: What tells it from other entries (see cogvx.data.manifest.entry_id).
        entry: As it will stand in the result: its paths are relative to the result's folder. Not to be changed.
        path: Of its "video", or else its "image": absolute and inside the root; None if it names neither. The file may
            be missing.
        place: Where it comes from, such as "m.jsonl:12".
        stamp: What else the result depends on, such as the file's time; a result of another stamp is not taken over.
    """

    id: str
    entry: Entry
    path: Path | None
    place: str
    stamp: str = ""


class Stage(Protocol):
    """One step of the pipeline; it is pickled before open(), and opened once in each process that works.

    A stage may also have `columns() -> tuple[str, ...]`, the dotted names of all that it adds ("scores.flow",
    "made.flow", "caption"), if it always gives one entry with the same file and part. Then what it added to a former
    result is taken over into entries that have changed otherwise since.
    """

    @property
    def name(self) -> str:
        """What the stage is called, also in entry["errors"]."""

    def settings(self) -> dict[str, Any]:
        """Return all that changes its results, as JSON takes it."""

    def wanted(self, entry: Entry) -> bool:
        """Whether it has something to do: false if all that it adds is there, made with the same settings."""

    def open(self) -> None:
        """Load what the work needs."""

    def process(self, item: Item) -> list[Entry]:
        """Return what becomes of an item: usually the entry with more in it.

        New files stand in it by absolute paths, which become relative to the result's folder.

        Raises:
            CogvxError: The item cannot be used; it is kept with the error.
        """

    def close(self) -> None:
        """Let go of what open() has loaded."""


@dataclass(frozen=True)
class Failure:
    """Why an item could not be used.

    Attributes:
        error: One line.
        exit_code: Of the error's kind; 1 is a fault of cogvx.
        fatal: Whether every other item would fail too: the run ends.
        trace: The traceback of a fault.
    """

    error: str
    exit_code: int
    fatal: bool = False
    trace: str = ""

    @classmethod
    def of(cls, error: CogvxError, item: Item | None = None) -> "Failure":
        """Return a failure for an error; the item's absolute path, which only this machine has, becomes the entry's."""
        full = isinstance(error, MissingError) and isinstance(error.__cause__, OSError)
        text = str(error)
        if item is not None and item.path is not None and not full:
            name = item.entry.get("video") or item.entry.get("image") or item.path.name
            text = text.replace(str(item.path), name)
        return cls(text, error.exit_code, fatal=full)

    def exception(self) -> CogvxError:
        """Return it as the error that it was; of a fault, the traceback is a note of it."""
        error = _ERRORS.get(self.exit_code, _Fault)(self.error)
        if self.trace:
            error.add_note(self.trace)
        return error


class _Fault(CogvxError):
    """Something that is no error of the user's."""


@dataclass(frozen=True)
class Outcome:
    """What has become of an item.

    Attributes:
        lines: Its rows, as they stand in the result.
        failure: Why it could not be used.
    """

    lines: bytes
    failure: Failure | None = None


def process_item(stage: Stage, item: Item, base: Path) -> Outcome:
    """Process one item with an opened stage; whatever goes wrong is in the outcome.

    Args:
        stage: Opened.
        item: What to work on.
        base: Folder that the result's paths are relative to.
    """
    try:
        with disk_errors(item.path or base):
            rows = stage.process(item)
        lines = [format_entry(finished(relative_to(row, base), stage, item)) for row in rows]
        for line in lines:
            parse_entry(line)  # what the next stage could not read must not be written
        return Outcome(b"".join(lines))
    except CogvxError as error:
        failure = Failure.of(error, item)
    except MemoryError:
        failure = Failure("not enough memory", MissingError.exit_code)
    except Exception as error:
        text = f"fault of cogvx: {type(error).__name__}: {error}"
        failure = Failure(text, 1, trace=traceback.format_exc())
    return failed(stage, item, failure)


def failed(stage: Stage, item: Item, failure: Failure) -> Outcome:
    """Return the outcome of an item that could not be used: its entry, with the error."""
    row = finished(item.entry, stage, item)
    error = {"stage": stage.name, "error": failure.error, "exit_code": failure.exit_code}
    row["errors"] = [*row.get("errors", []), error]
    return Outcome(format_entry(row), failure)


def finished(row: Entry, stage: Stage, item: Item) -> Entry:
    """Return a row without an earlier error of the stage, and with what it was made from."""
    row = dict(row)
    if "errors" in row:
        row["errors"] = [error for error in row["errors"] if not is_error_of(error, stage)]
        if not row["errors"]:
            del row["errors"]
    if columns_of(stage) is None:
        before = row.get("made_from")
        row["made_from"] = {**(before if isinstance(before, dict) else {}), stage.name: digest(item)}
    return row


def digest(item: Item) -> str:
    """Return 16 hexadecimal digits that tell an item's entry from all others, and from what it was before."""
    text = json.dumps([item.stamp, item.entry], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def has_failed(row: Entry, stage: Stage) -> bool:
    """Whether a row carries an error of the stage."""
    return any(is_error_of(error, stage) for error in row.get("errors", ()))


def is_error_of(error: object, stage: Stage) -> bool:
    """Whether something in entry["errors"] was put there by the stage."""
    return isinstance(error, dict) and error.get("stage") == stage.name


def columns_of(stage: Stage) -> tuple[str, ...] | None:
    """Return the dotted names of what a stage adds; None if it does not say."""
    columns = getattr(stage, "columns", None)
    return None if columns is None else tuple(columns())


def get_column(entry: Entry, column: str) -> Any:
    """Return what stands under a dotted name; None if nothing does."""
    name, _, part = column.partition(".")
    value = entry.get(name)
    return value if not part else value.get(part) if isinstance(value, dict) else None


def with_columns(entry: Entry, former: Entry, columns: tuple[str, ...]) -> Entry:
    """Return an entry with these columns of a former result."""
    row = dict(entry)
    for column in columns:
        value = get_column(former, column)
        if value is None:
            continue
        name, _, part = column.partition(".")
        row[name] = {**row.get(name, {}), part: value} if part else value
    return row
