"""A selection as training takes it: over entries that are in memory, by a condition that a stage may shift."""

from collections.abc import Sequence

import numpy as np

from cogvx.data.manifest import Entry
from cogvx.data.select.decide import decide
from cogvx.data.select.options import SelectOptions
from cogvx.data.select.parser import Expression, parse_condition
from cogvx.data.select.table import FALSE, TRUE, Table, known_columns


def refusals(where: str | Expression, entries: Sequence[Entry], *, rejected: bool = False) -> list[str | None]:
    """Return for each entry which part of a condition it does not fulfil; None if it fulfils all.

    Args:
        where: A condition, such as `flow >= q0.2 and aesthetic >= 4.5`.
        entries: Of one or more manifests; quantiles are of all of them.
        rejected: Whether those that are rejected count as the others do.

    Raises:
        UsageError: The condition is wrong, or no entry has a column.
        InputError: More than 1 % of the entries lack a column.
    """
    expression = parse_condition(where) if isinstance(where, str) else where
    table = Table([expression.node])
    for number, entry in enumerate(entries, 1):
        table.add(entry, place=f"entry {number}", rejected=bool(entry.get("rejected")))
    known = dict.fromkeys(name for entry in entries[:1000] for name in known_columns(entry))
    counted = np.ones(len(table), bool) if rejected else ~table.rejected(slice(None))
    verdict = decide(SelectOptions(where=expression), table, counted=counted, known=known)
    found: list[str | None] = [None] * len(entries)
    for node, decided in reversed(list(zip(verdict.conjuncts, verdict.truths, strict=True))):
        words = expression.source(node)
        for row in np.flatnonzero(decided != TRUE):
            found[row] = f"not {words}" if decided[row] == FALSE else f"{words} is not known"
    return found
