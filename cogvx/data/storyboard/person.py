"""A person of polygons with jointed arms and legs: walking, jumping, waving, standing."""

from math import cos, pi, sin

from cogvx.data.storyboard.shapes import Part, Points, box, ellipse, polygon

SCALE = 1.3  # a person is narrow: taller than other objects of the same size, to be as easy to see


def _limb(x: float, y: float, angle: float, length: float, width: float) -> tuple[Points, float, float]:
    """Return a bar from (x, y), hanging down at angle 0, and its far end; angles in radians, anticlockwise."""
    dx, dy = sin(angle), cos(angle)
    side_x, side_y = dy * width / 2, -dx * width / 2
    end_x, end_y = x + dx * length, y + dy * length
    corners = (
        (x - side_x, y - side_y),
        (x + side_x, y + side_y),
        (end_x + side_x * 0.85, end_y + side_y * 0.85),
        (end_x - side_x * 0.85, end_y - side_y * 0.85),
    )
    return polygon(*corners), end_x, end_y


def _arm(x: float, angle: float, bend: float) -> list[Part]:
    upper, elbow_x, elbow_y = _limb(x, -0.17, angle, 0.17, 0.10)
    lower, hand_x, hand_y = _limb(elbow_x, elbow_y, angle + bend, 0.15, 0.09)
    return [Part("shade", upper), Part("shade", lower), Part("skin", ellipse(hand_x, hand_y, 0.052, num=10))]


def _leg(x: float, angle: float, bend: float) -> list[Part]:
    upper, knee_x, knee_y = _limb(x, 0.08, angle, 0.21, 0.125)
    lower, foot_x, foot_y = _limb(knee_x, knee_y, angle + bend, 0.18, 0.11)
    shoe = box(foot_x - 0.055, foot_y - 0.03, foot_x + 0.10, foot_y + 0.035)
    return [Part("shade", upper), Part("shade", lower), Part("tyre", shoe)]


def parts_of_person(action: str, seconds: float, lift: float = 0.0) -> tuple[Part, ...]:
    """Return the polygons of a person, back to front, in units of its height.

    Args:
        action: One of the person's actions.
        seconds: Time in the clip; a step of the walk takes 0.5 s, a wave of the hand 1 s.
        lift: Height of a jump, 0 on the ground and 1 at the top.
    """
    if action.startswith("walk"):
        swing = sin(2 * pi * seconds)
        back, front = -0.55 * swing, 0.55 * swing
        limbs_behind = [*_arm(0.0, 0.75 * swing, 0.5), *_leg(-0.01, back, -0.45 * max(0.0, cos(2 * pi * seconds)))]
        limbs_before = [*_leg(0.01, front, -0.45 * max(0.0, -cos(2 * pi * seconds)))]
        arms_before = _arm(0.0, -0.75 * swing, 0.5)
        half = 0.125
    elif action == "jump":
        raised = 0.35 + 2.1 * lift
        tuck = 0.55 * (1 - lift)
        limbs_behind = [*_leg(-0.065, -0.12 - 0.25 * lift, tuck * 0.2), *_leg(0.065, 0.12 + 0.25 * lift, -tuck * 0.2)]
        limbs_before = [*_arm(-0.14, -raised, -0.2), *_arm(0.14, raised, 0.2)]
        arms_before = []
        half = 0.155
    else:
        waving = action == "wave"
        hand = sin(2 * pi * seconds)
        right = 2.05 + 0.30 * hand if waving else 0.22
        bend = 0.35 + 0.85 * hand if waving else 0.05
        limbs_behind = [*_leg(-0.07, -0.06, 0.0), *_leg(0.07, 0.06, 0.0)]
        limbs_before = [*_arm(-0.14, -0.22, -0.05), *_arm(0.14, right, bend)]
        arms_before = []
        half = 0.155
    torso = polygon(
        (-half, -0.19), (-half + 0.03, -0.225), (half - 0.03, -0.225), (half, -0.19), (half, 0.13), (-half, 0.13)
    )
    head = [
        Part("hair", ellipse(-0.008, -0.372, 0.132, num=18)),
        Part("skin", ellipse(0.008, -0.338, 0.112, 0.108, num=18)),
    ]
    return (*limbs_behind, *limbs_before, Part("body", torso), *arms_before, *head)
