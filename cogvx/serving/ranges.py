"""Which bytes of a file a browser asks for (RFC 9110, "Range Requests"): players jump within a clip."""

import re

_RANGE = re.compile(r"bytes=\s*([0-9]{0,15})\s*-\s*([0-9]{0,15})\s*")


def wanted_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first byte that is asked for, and the one behind the last.

    Args:
        header: Of the request, such as "bytes=0-1023"; None if there was none.
        size: Bytes of the file.

    Returns:
        None for the whole file: nothing, several ranges, or nothing that can be understood was asked for.

    Raises:
        ValueError: The range lies behind the end of the file.
    """
    found = _RANGE.fullmatch(header or "")
    if found is None or found[1] == found[2] == "":
        return None
    if found[1] == "":  # the last so many
        length = int(found[2])
        if length == 0 or size == 0:
            raise ValueError("an empty range")
        return max(0, size - length), size
    start = int(found[1])
    stop = size if found[2] == "" else min(int(found[2]) + 1, size)
    if start >= size:
        raise ValueError("a range behind the end")
    return (start, stop) if start < stop else None
