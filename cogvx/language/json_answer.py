"""JSON objects out of what language models write."""

import json
import re
from typing import Any

from cogvx.errors import InputError
from cogvx.files import clean


def read_object(text: str) -> dict[str, Any]:
    """Return the JSON object that an answer holds, whether it stands alone, in a code fence or among words.

    Of several the first one is taken. NaN and infinities are refused.

    Raises:
        InputError: There is none.
    """
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    for found in re.finditer(r"\{", text[: 1 << 20]):
        try:
            value, _ = decoder.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            if found.start() > 1 << 12:  # each brace costs a look at all that follows
                break
            continue
        return value
    raise InputError(f"the answer holds no JSON object: {clean(text)[:120]!r}")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")
