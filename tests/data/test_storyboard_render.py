"""What is drawn is what the truth says: the colour, the place, the motion."""

import itertools

import numpy as np
import pytest

from cogvx.data.storyboard import ObjectSpec, SceneSpec, render, spec_at, trajectory
from cogvx.data.storyboard import vocabulary as words
from cogvx.errors import UsageError


def scene(kind="star", colour="red", size="medium", action="still", x=0.5, y=0.5, *, where="field", **rest):
    return SceneSpec((ObjectSpec(kind, colour, size, action, x, y),), where, **rest)


def mask(frames, colour, tolerance=60):
    """Pixels about as coloured as an object of that colour (t h w)."""
    difference = np.abs(frames.astype(int) - np.array(words.COLOUR_RGB[colour]))
    return difference.max(axis=-1) < tolerance


def centres(frames, colour):
    """The middle (x, y) of the coloured pixels of every frame."""
    return np.array([[axis.mean() + 0.5 for axis in np.nonzero(one)[::-1]] for one in mask(frames, colour)])


@pytest.mark.parametrize(
    ("num_frames", "height", "width"),
    [(17, 64, 96), (1, 96, 144), (5, 128, 192), (3, 96, 64), (2, 17, 41), (2, 64, 64)],
)
@pytest.mark.parametrize("style", words.STYLES)
def test_any_size(style, num_frames, height, width):
    spec = scene(style=style, camera="pan_left")
    frames = render(spec, num_frames=num_frames, height=height, width=width)
    assert frames.shape == (num_frames, height, width, 3) and frames.dtype == np.uint8
    assert (frames == render(spec, num_frames=num_frames, height=height, width=width)).all()


@pytest.mark.parametrize("style", words.STYLES)
def test_the_rate_only_says_when_to_look(style):
    for index in range(6):
        spec = SceneSpec(spec_at(0, index).objects, "city", style, "zoom_in", 3)
        if any(one.colour == "white" for one in spec.objects):
            continue
        assert (render(spec, num_frames=9, fps=4.0) == render(spec, num_frames=17, fps=8.0)[::2]).all()


@pytest.mark.parametrize("style", words.STYLES)
def test_every_legal_colour_is_seen_on_every_scene(style):
    for where in words.SCENES:
        for colour in words.colours_in(where, style):
            left, right = (scene("square", colour, x=x, where=where, style=style, seed=1) for x in (0.25, 0.75))
            box = trajectory(left, num_frames=1)[0, 0].astype(int)
            with_it, without = (render(spec, num_frames=1)[0].astype(int) for spec in (left, right))
            area = np.s_[box[1] + 1 : box[3] - 1, box[0] + 1 : box[2] - 1]
            assert np.abs(with_it - without)[area].max(axis=-1).mean() > 30, (where, colour)


@pytest.mark.parametrize("kind", words.OBJECTS)
def test_the_body_has_the_named_colour(kind):
    for colour in ("red", "blue", "yellow"):
        spec = scene(kind, colour, "large", where="city")
        box = trajectory(spec, num_frames=1)[0, 0]
        seen = mask(render(spec, num_frames=1), colour)[0]
        assert seen.sum() > 0.2 * (box[2] - box[0]) * (box[3] - box[1])


def test_kinds_have_different_silhouettes():
    shapes = [mask(render(scene(kind, "red", where="night"), num_frames=1), "red")[0] for kind in words.OBJECTS]
    for first, second in itertools.combinations(shapes, 2):
        assert (first & second).sum() / (first | second).sum() < 0.87


@pytest.mark.parametrize(
    ("action", "direction"),
    [("move_left", (-1, 0)), ("move_right", (1, 0)), ("move_up", (0, -1)), ("move_down", (0, 1))],
)
def test_moves_are_long_smooth_and_where_the_truth_says(action, direction):
    spec = scene(action=action, where="night")
    frames = render(spec)
    path = centres(frames, "red")
    steps = np.diff(path, axis=0)
    total = path[-1] - path[0]
    assert (np.sign(np.round(total / 10)) == direction).all()
    assert np.abs(total).max() > (0.48 * 96 if direction[0] else 0.43 * 64)
    assert np.abs(steps - steps.mean(axis=0)).max() < 0.4  # pixels: nothing jumps from pixel to pixel
    boxes = trajectory(spec)[0]
    assert (
        np.abs((boxes[:, :2] + boxes[:, 2:]) / 2 - path).max() < 2
    )  # the middle of a star's area is a little below that of its box


@pytest.mark.parametrize("kind", words.OBJECTS)
@pytest.mark.parametrize("camera", ["still", "zoom_out", "pan_right"])
def test_boxes_surround_what_is_drawn(kind, camera):
    spec = scene(kind, "blue", action=words.actions_of(kind)[1], where="desert", camera=camera, seed=2)
    line = 2.5  # pixels: the line around an object does not count
    for frame, box in zip(render(spec)[::4], trajectory(spec)[0][::4], strict=True):
        rows, columns = np.nonzero(mask(frame[None], "blue")[0])
        assert box[0] - line < columns.min() and columns.max() + 1 < box[2] + line
        assert box[1] - line < rows.min() and rows.max() + 1 < box[3] + line
        if kind in ("circle", "square", "diamond"):
            assert columns.min() < max(box[0], 0) + 1.5 and columns.max() + 1 > min(box[2], 96) - 1.5
            assert rows.min() < box[1] + 1.5 and rows.max() + 1 > box[3] - 1.5


def test_each_action_changes_what_it_should():
    def areas(action, kind="star"):
        return mask(render(scene(kind, action=action, where="night")), "red", 90).sum(axis=(1, 2))

    assert areas("grow")[-1] > 4 * areas("grow")[0]
    assert areas("shrink")[0] > 4 * areas("shrink")[-1]
    assert areas("fade")[0] > 150 and areas("fade")[-1] == 0
    still, spin = (render(scene("car", action=action, where="night")) for action in ("still", "spin"))
    assert (still == still[:1]).all()
    assert (np.abs(np.diff(spin.astype(int), axis=0)).max(axis=(1, 2, 3)) > 60).all()
    bounce = centres(render(scene(action="bounce", where="night")), "red")[:, 1]
    assert bounce[4] < bounce[0] - 15 and abs(bounce[8] - bounce[0]) < 1 and bounce[12] < bounce[8] - 15
    orbit = centres(render(scene(action="orbit", where="night")), "red") - (48, 32)
    assert np.abs(np.linalg.norm(orbit, axis=1) - 0.27 * 64).max() < 2


@pytest.mark.parametrize("action", ["walk_left", "walk_right", "jump", "wave"])
def test_a_person_moves_its_limbs(action):
    frames = render(scene("person", "green", "large", action, where="city"))
    boxes = trajectory(scene("person", "green", "large", action, where="city"))[0]
    assert (frames[1:] != frames[:-1]).any(axis=(1, 2, 3)).all()
    assert np.ptp(boxes[:, 2] - boxes[:, 0]) > 4  # legs or arms spread
    moved = (boxes[-1] - boxes[0])[0]
    assert moved < -40 if action == "walk_left" else moved > 40 if action == "walk_right" else abs(moved) < 5


def test_the_camera_moves_the_world():
    def boxes(camera):
        return trajectory(scene(camera=camera))[0]

    assert boxes("pan_right")[-1, 0] < boxes("pan_right")[0, 0] - 15
    assert boxes("pan_left")[-1, 0] > boxes("pan_left")[0, 0] + 15
    sizes = boxes("zoom_in")[:, 2] - boxes("zoom_in")[:, 0]
    assert sizes[-1] > 1.3 * sizes[0] and (np.diff(sizes) > 0).all()
    still, panned = (render(scene(camera=camera, where="city")) for camera in ("still", "pan_left"))
    assert (still[0] == still[-1]).all() and np.abs(panned[0].astype(int) - panned[-1])[:20].mean() > 8


@pytest.mark.parametrize(("num_frames", "height", "width"), [(17, 64, 96), (97, 64, 96), (17, 96, 64)])
def test_objects_stay_in_view(num_frames, height, width):
    for index in range(60):
        boxes = trajectory(spec_at(6, index), num_frames=num_frames, height=height, width=width)
        x, y = (boxes[..., 0] + boxes[..., 2]) / 2, (boxes[..., 1] + boxes[..., 3]) / 2
        assert (x > 0).all() and (x < width).all() and (y > 0).all() and (y < height).all()


def test_objects_of_one_scene_do_not_hide_each_other():
    for index in range(300):
        spec = spec_at(7, index)
        if len(spec.objects) == 1:
            continue
        boxes = trajectory(spec)
        for one, other in itertools.combinations(boxes, 2):
            low, high = np.maximum(one[:, :2], other[:, :2]), np.minimum(one[:, 2:], other[:, 2:])
            shared = np.clip(high - low, 0, None).prod(axis=1)
            smaller = np.minimum(*((box[:, 2:] - box[:, :2]).prod(axis=1) for box in (one, other)))
            assert (shared / smaller).max() < 0.75, spec


@pytest.mark.parametrize(
    "sizes", [{"num_frames": 0}, {"height": 8}, {"width": 15}, {"fps": 0.0}, {"fps": float("nan")}]
)
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(UsageError, match="cannot draw"):
        render(scene(), **sizes)


def test_an_illegal_scene_is_not_drawn():
    with pytest.raises(UsageError, match="not be seen"):
        render(scene(colour="green"))
