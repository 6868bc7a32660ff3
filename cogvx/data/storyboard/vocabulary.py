"""What Storyboard can show: objects, colours, sizes, actions, scenes, styles, cameras, and what goes together."""

Rgb = tuple[int, int, int]

OBJECTS = (
    "circle",
    "square",
    "triangle",
    "star",
    "heart",
    "diamond",
    "car",
    "boat",
    "fish",
    "bird",
    "tree",
    "house",
    "flower",
    "person",
)
"""Kinds of object."""

COLOUR_RGB: dict[str, Rgb] = {
    "red": (222, 34, 38),
    "orange": (250, 134, 16),
    "yellow": (253, 224, 40),
    "green": (34, 158, 66),
    "blue": (36, 84, 226),
    "purple": (134, 52, 182),
    "pink": (252, 128, 192),
    "white": (250, 250, 250),
}
COLOURS = tuple(COLOUR_RGB)
"""Names of the colours of an object's main body."""

SIZE_FRACTION = {"small": 0.30, "medium": 0.40, "large": 0.52}
SIZES = tuple(SIZE_FRACTION)
"""Sizes; `SIZE_FRACTION` has each one as a fraction of the frame's height (of the shorter side in portrait)."""

MOVES = ("move_left", "move_right", "move_up", "move_down")
SHAPE_ACTIONS = (*MOVES, "bounce", "spin", "grow", "shrink", "orbit", "fade", "still")
PERSON_ACTIONS = ("walk_left", "walk_right", "jump", "wave", "still")
ACTIONS = (*SHAPE_ACTIONS, "walk_left", "walk_right", "jump", "wave")
"""Actions; a person takes `PERSON_ACTIONS`, everything else `SHAPE_ACTIONS`."""

SCENES = ("field", "sea", "night", "desert", "snow", "city", "room", "sunset")
"""Backgrounds."""

STYLES = ("flat", "pixel", "sketch", "watercolour")
"""Ways of drawing."""

CAMERAS = ("still", "pan_left", "pan_right", "zoom_in", "zoom_out")
"""Movements of the camera."""

HORIZONTAL = frozenset({"move_left", "move_right", "walk_left", "walk_right"})
VERTICAL = frozenset({"move_up", "move_down", "bounce", "jump", "orbit"})
NEVER_SPINS = frozenset({"circle"})  # its turning could not be seen

SCENE_CLASHES: dict[str, frozenset[str]] = {
    "field": frozenset({"green"}),
    "sea": frozenset({"blue"}),
    "night": frozenset({"blue"}),
    "desert": frozenset({"yellow"}),
    "snow": frozenset({"white"}),
    "city": frozenset(),
    "room": frozenset(),
    "sunset": frozenset({"pink", "orange"}),
}
"""Colours that a scene swallows: such an object would not be seen."""

STYLE_CLASHES: dict[str, frozenset[str]] = {
    "flat": frozenset(),
    "pixel": frozenset(),
    "sketch": frozenset({"white"}),
    "watercolour": frozenset(),
}
"""Colours that a style swallows: white is the colour of the sketch's paper."""

MAX_OBJECTS = 3


def actions_of(kind: str) -> tuple[str, ...]:
    """List the actions that a kind of object can take."""
    if kind == "person":
        return PERSON_ACTIONS
    return tuple(action for action in SHAPE_ACTIONS if not (action == "spin" and kind in NEVER_SPINS))


def colours_in(scene: str, style: str = "flat") -> tuple[str, ...]:
    """List the colours that can be seen in a scene drawn in a style."""
    hidden = SCENE_CLASHES[scene] | STYLE_CLASHES[style]
    return tuple(colour for colour in COLOURS if colour not in hidden)
