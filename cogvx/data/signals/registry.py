"""All signals by name."""

from collections.abc import Sequence
from typing import Literal

from cogvx.data.signals.bars import Bars
from cogvx.data.signals.brisque import Brisque
from cogvx.data.signals.continuity import Continuity
from cogvx.data.signals.exposure import Exposure
from cogvx.data.signals.flow import Flow
from cogvx.data.signals.frozen import Frozen
from cogvx.data.signals.motion_vectors import MotionVectors
from cogvx.data.signals.phash import PHash
from cogvx.data.signals.sharpness import Sharpness
from cogvx.data.signals.signal import Signal
from cogvx.data.signals.text import Text
from cogvx.data.signals.watermark import Watermark
from cogvx.errors import UsageError
from cogvx.files import clean

FlowEngine = Literal["dis", "raft", "mv"]
_PLAIN: dict[str, type[Signal]] = {
    kind.name: kind for kind in (Flow, Continuity, Sharpness, Exposure, Brisque, Text, Bars, Frozen, Watermark, PHash)
}
# These two are no functions of a clip's frames alone: one needs weights that somebody names, one all other clips.
AESTHETIC, DUPLICATES = "aesthetic", "duplicates"
NAMES = (*_PLAIN, AESTHETIC, DUPLICATES)
ALL = "all"


def names_of(text: str) -> tuple[str, ...]:
    """Return the names of signals in a list such as "flow,text", in the order of the registry; "all" names every one.

    Raises:
        UsageError: One is unknown, or there is none.
    """
    wanted = [name.strip().lower().replace("-", "_") for name in text.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in (*NAMES, ALL)]
    if unknown or not wanted:
        what = f"no such signal: {clean(unknown[0])[:60]}" if unknown else "no signal is named"
        raise UsageError(f"--signals: {what}; there are {', '.join(NAMES)}, and all")
    return NAMES if ALL in wanted else tuple(name for name in NAMES if name in wanted)


def signals_of(names: Sequence[str], *, flow_engine: FlowEngine = "dis") -> tuple[Signal, ...]:
    """Return the signals of these names, with their standard parameters; aesthetic is left to the caller.

    Where both are wanted, watermark looks at what text has read; duplicates need phash.

    Args:
        names: As names_of gives them.
        flow_engine: How flow is found: by OpenCV's DIS, by RAFT, or from the codec's motion vectors.
    """
    result: list[Signal] = []
    for name, kind in _PLAIN.items():
        if name not in names and not (kind is PHash and DUPLICATES in names):
            continue
        if kind is Flow:
            result.append(MotionVectors() if flow_engine == "mv" else Flow(engine=flow_engine))
        elif kind is Watermark:
            result.append(Watermark(text=Text() if Text.name in names else None))
        else:
            result.append(kind())
    return tuple(result)
