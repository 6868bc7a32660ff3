"""The words of the captions. The first entry of every list is the canonical one."""


def an(phrase: str) -> str:
    """Put "a" or "an" before a phrase."""
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


OBJECT_WORDS: dict[str, list[str]] = {
    "circle": ["circle", "ball", "disc", "round circle"],
    "square": ["square", "box", "square block"],
    "triangle": ["triangle", "triangle shape"],
    "star": ["star", "five-pointed star", "star shape"],
    "heart": ["heart", "heart shape"],
    "diamond": ["diamond", "gem", "diamond shape"],
    "car": ["car", "automobile", "toy car"],
    "boat": ["boat", "sailboat", "sailing boat"],
    "fish": ["fish"],
    "bird": ["bird", "songbird"],
    "tree": ["tree", "leafy tree"],
    "house": ["house", "cottage", "home"],
    "flower": ["flower", "blossom"],
    "person": [
        "person",
        "person in {colour}",
        "person in {colour} clothes",
        "man in {colour}",
        "person dressed in {colour}",
        "figure",
    ],
}

SIZE_WORDS: dict[str, list[str]] = {
    "small": ["small", "little", "tiny"],
    "medium": ["medium", "medium-sized", "mid-sized"],
    "large": ["large", "big", "huge"],
}

ACTION_WORDS: dict[str, list[tuple[str, str]]] = {
    "move_left": [
        ("moves to the left", "moving to the left"),
        ("moves left", "moving left"),
        ("drifts to the left", "drifting to the left"),
        ("slides left", "sliding left"),
        ("travels leftwards", "travelling leftwards"),
        ("glides from right to left", "gliding from right to left"),
        ("goes left", "going left"),
    ],
    "move_right": [
        ("moves to the right", "moving to the right"),
        ("moves right", "moving right"),
        ("drifts to the right", "drifting to the right"),
        ("slides right", "sliding right"),
        ("travels rightwards", "travelling rightwards"),
        ("glides from left to right", "gliding from left to right"),
        ("goes right", "going right"),
    ],
    "move_up": [
        ("moves up", "moving up"),
        ("rises", "rising"),
        ("moves upwards", "moving upwards"),
        ("floats up", "floating up"),
        ("goes up", "going up"),
        ("climbs upwards", "climbing upwards"),
    ],
    "move_down": [
        ("moves down", "moving down"),
        ("sinks", "sinking"),
        ("moves downwards", "moving downwards"),
        ("falls slowly", "falling slowly"),
        ("goes down", "going down"),
        ("descends", "descending"),
    ],
    "bounce": [
        ("bounces", "bouncing"),
        ("bounces up and down", "bouncing up and down"),
        ("hops up and down", "hopping up and down"),
    ],
    "spin": [
        ("spins", "spinning"),
        ("rotates", "rotating"),
        ("turns around and around", "turning around and around"),
        ("spins around", "spinning around"),
    ],
    "grow": [
        ("grows", "growing"),
        ("grows bigger", "growing bigger"),
        ("gets larger", "getting larger"),
        ("expands", "expanding"),
    ],
    "shrink": [
        ("shrinks", "shrinking"),
        ("gets smaller", "getting smaller"),
        ("becomes smaller", "becoming smaller"),
        ("shrinks away", "shrinking away"),
    ],
    "orbit": [
        ("orbits", "orbiting"),
        ("moves in a circle", "moving in a circle"),
        ("circles around", "circling around"),
        ("flies in a circle", "flying in a circle"),
    ],
    "fade": [
        ("fades", "fading"),
        ("fades away", "fading away"),
        ("fades out", "fading out"),
        ("slowly disappears", "slowly disappearing"),
    ],
    "still": [
        ("stays still", "staying still"),
        ("does not move", "not moving"),
        ("rests", "resting"),
        ("stays in place", "staying in place"),
    ],
    "stand": [
        ("stands still", "standing still"),
        ("stays still", "staying still"),
        ("stands there without moving", "standing there without moving"),
        ("stands in place", "standing in place"),
    ],
    "walk_left": [
        ("walks to the left", "walking to the left"),
        ("walks left", "walking left"),
        ("strolls to the left", "strolling to the left"),
        ("walks from right to left", "walking from right to left"),
    ],
    "walk_right": [
        ("walks to the right", "walking to the right"),
        ("walks right", "walking right"),
        ("strolls to the right", "strolling to the right"),
        ("walks from left to right", "walking from left to right"),
    ],
    "jump": [
        ("jumps", "jumping"),
        ("jumps up and down", "jumping up and down"),
        ("leaps into the air", "leaping into the air"),
    ],
    "wave": [
        ("waves", "waving"),
        ("waves a hand", "waving a hand"),
        ("waves hello", "waving hello"),
    ],
}

SCENE_WORDS: dict[str, list[str]] = {
    "field": [
        "over a green field",
        "in a green field",
        "on a green field",
        "above a grassy meadow",
        "over green grass",
        "in a green meadow",
        "over a grassy field",
    ],
    "sea": [
        "over a blue sea",
        "on a blue sea",
        "in the blue sea",
        "over the ocean",
        "above the blue sea",
        "over blue water",
        "on the ocean",
    ],
    "night": [
        "in a night sky",
        "in the night sky",
        "under a night sky",
        "over a dark night sky",
        "in a starry night",
        "against a starry sky at night",
        "at night under the stars",
    ],
    "desert": [
        "over a sandy desert",
        "in a sandy desert",
        "in the desert",
        "above sand dunes",
        "over desert sand",
        "on a sandy desert",
    ],
    "snow": [
        "over snowy hills",
        "in snowy hills",
        "on snowy hills",
        "over white snow",
        "in the snow",
        "above snow-covered hills",
        "in a winter landscape",
    ],
    "city": [
        "on a city street",
        "in a city street",
        "over a city street",
        "in the city",
        "in front of grey buildings",
        "on a street in town",
    ],
    "room": [
        "in a room",
        "in an indoor room",
        "inside a room",
        "indoors in a room",
        "in a living room",
        "over the floor of a room",
    ],
    "sunset": [
        "over a pink sunset",
        "in a pink sunset",
        "at sunset",
        "in front of a pink sunset",
        "against a pink sunset sky",
        "on a pink evening",
        "under a pink sky at sunset",
    ],
}

STYLE_WORDS: dict[str, list[str]] = {
    "flat": ["in flat style", "in a flat cartoon style", "drawn in flat colours", "flat design"],
    "pixel": ["in pixel art style", "in pixel art", "as pixel art", "pixel art", "drawn in big pixels"],
    "sketch": [
        "in sketch style",
        "as an outline sketch",
        "drawn as a sketch on paper",
        "outline drawing",
        "in a pencil sketch style",
    ],
    "watercolour": [
        "in watercolour style",
        "as a watercolour painting",
        "painted in watercolour",
        "in watercolor",
        "watercolour style",
    ],
}

STYLE_PREFIX: dict[str, list[str]] = {
    "flat": ["flat cartoon", "flat style"],
    "pixel": ["pixel art", "pixel art video"],
    "sketch": ["outline sketch", "a sketch on paper"],
    "watercolour": ["watercolour painting", "a watercolour"],
}

CAMERA_WORDS: dict[str, list[str]] = {
    "pan_left": ["camera pans left", "the camera pans to the left", "camera moving left", "panning left"],
    "pan_right": ["camera pans right", "the camera pans to the right", "camera moving right", "panning right"],
    "zoom_in": ["camera zooms in", "the camera zooms in", "zooming in", "camera moving closer"],
    "zoom_out": ["camera zooms out", "the camera zooms out", "zooming out", "camera moving away"],
}

STILL_CAMERA_WORDS = ["still camera", "the camera is still", "static camera", "fixed camera"]

_ACROSS = {
    "left": ["on the left", "on the left side"],
    "right": ["on the right", "on the right side"],
    "middle": ["in the middle", "in the centre"],
}
_DOWN = {
    "top": ["near the top", "in the upper part"],
    "bottom": ["near the bottom", "in the lower part"],
    "middle": ["at mid height", "in the middle part"],
}
_BOTH = {
    "top-left": ["at the top left", "in the upper left"],
    "top-middle": ["at the top", "near the top"],
    "top-right": ["at the top right", "in the upper right"],
    "middle-left": ["on the left", "on the left side"],
    "middle-middle": ["in the middle", "in the centre"],
    "middle-right": ["on the right", "on the right side"],
    "bottom-left": ["at the bottom left", "in the lower left"],
    "bottom-middle": ["at the bottom", "near the bottom"],
    "bottom-right": ["at the bottom right", "in the lower right"],
}
PLACE_WORDS: dict[str, list[str]] = {
    **{f"x-{key}": value for key, value in _ACROSS.items()},
    **{f"y-{key}": value for key, value in _DOWN.items()},
    **_BOTH,
}
"""Places: "x-…" across the frame, "y-…" down it, else both."""
