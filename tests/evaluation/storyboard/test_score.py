"""Right and wrong: attribute by attribute, whatever the order, and added up."""

import random
from dataclasses import replace
from itertools import permutations

import pytest

from cogvx.evaluation.storyboard import AskedObject, Finding, Request, SeenObject, Sight, Tally, judge_request, margin


def seen(kind, colour, action="still", size="small"):
    scores = {"kind": {kind: 2.0, "else": 1.0}, "colour": {colour: 2.0, "else": 1.5}}
    return SeenObject(
        kind, colour, size, action, 0.5, 0.5, 0.8, scores | {"size": {size: -0.1}, "action": {action: 3.0}}
    )


def asked(kind=None, colour=None, action=None, size=None):
    return AskedObject(kind, colour, size, action)


def sight(*objects, scene="sea", style="flat", camera="still"):
    named = {"scene": scene, "style": style, "camera": camera}
    return Sight(scene, style, camera, objects, {key: {name: 1.0, "else": 0.5} for key, name in named.items()})


def wrong(verdict):
    return {(one.attribute, one.asked, one.seen) for one in verdict.findings if not one.right}


STAR, BOAT = seen("star", "red", "move_left"), seen("boat", "white", "grow")
BOTH = Request((asked("star", "red", "move_left"), asked("boat", "white", "grow")), "sea", "flat", "still")


def test_everything_right():
    verdict = judge_request(sight(STAR, BOAT), BOTH)
    assert verdict.exact and verdict.share == 1.0 and verdict.num_objects == 2 and verdict.fit == pytest.approx(0.8)
    margins = {one.attribute: one.margin for one in verdict.findings}
    assert margins["count"] is None and margins["colour"] == 0.25 and margins["scene"] == margins["object"] == 0.5


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"colour": "blue"}, {("colour", "blue", "red")}),
        ({"kind": "heart"}, {("object", "heart", "star")}),
        ({"action": "spin"}, {("action", "spin", "move_left")}),
        ({"size": "large"}, {("size", "large", "small")}),
        ({"size": "small"}, set()),
        ({"colour": None, "action": None}, set()),
    ],
)
def test_only_what_was_asked_otherwise_is_wrong(changes, found):
    request = replace(BOTH, objects=(replace(BOTH.objects[0], **changes), BOTH.objects[1]))
    assert wrong(judge_request(sight(STAR, BOAT), request)) == found


@pytest.mark.parametrize("name", ["scene", "style", "camera"])
def test_the_stage(name):
    verdict = judge_request(sight(STAR, BOAT), replace(BOTH, **{name: "other"}))
    assert [(one.attribute, one.margin) for one in verdict.findings if not one.right] == [(name, -1.0)]
    assert len(judge_request(sight(STAR, BOAT), replace(BOTH, **{name: None})).findings) == len(verdict.findings) - 1


def test_missing_and_extra_objects():
    missing = judge_request(sight(BOAT), BOTH)
    assert wrong(missing) == {
        ("count", "2", "1"),
        ("object", "star", "nothing"),
        ("colour", "red", "nothing"),
        ("action", "move_left", "nothing"),
    }
    assert missing.fit == pytest.approx(0.4)
    assert wrong(judge_request(sight(STAR, BOAT, seen("tree", "green")), BOTH)) == {("count", "2", "3")}
    assert not judge_request(sight(), BOTH).exact


def test_a_motion_is_the_same_by_another_name():
    request = Request((asked("person", "red", "walk_left"),))
    assert wrong(judge_request(sight(STAR), request)) == {("object", "person", "star")}
    walker = seen("person", "red", "jump")
    assert wrong(judge_request(sight(walker), Request((asked("circle", "red", "bounce"),)))) == {
        ("object", "circle", "person")
    }
    assert ("action", "wave", "move_left") in wrong(
        judge_request(sight(STAR), Request((asked("person", None, "wave"),)))
    )


def test_the_order_does_not_matter():
    rng = random.Random(0)
    kinds, colours, actions = ("star", "boat", "car"), ("red", "white", "blue"), ("still", "grow", "spin")

    def draw(make):
        return make(rng.choice(kinds), rng.choice(colours), rng.choice(actions))

    for _ in range(40):
        wanted = [draw(asked) for _ in range(rng.randint(1, 3))]
        shown = [draw(seen) for _ in range(rng.randint(0, 4))]
        results = set()
        for objects in permutations(wanted):
            for others in permutations(shown):
                verdict = judge_request(sight(*others), Request(objects))
                right = [one.attribute for one in verdict.findings if one.right]
                results.add(tuple(sorted(right)))
        assert len(results) == 1


def test_margins():
    assert margin({"a": 4.0, "b": 3.0, "c": 1.0}, "a") == 0.25
    assert margin({"a": 4.0, "b": 3.0, "c": 1.0}, "c") == -0.75
    assert margin({"a": -1.0, "b": -4.0}, "a") == 0.75 and margin({"a": -1.0, "b": -4.0}, "b") == -0.75
    assert margin({"a": 5.0, "b": -9.0}, "a") == 1.0 and margin({"a": 5.0}, "z") == -1.0
    assert margin({"a": 1.0, "b": 1.0}, "a") == 0.0 and margin({"a": 0.0, "b": 0.0}, "a") == 0.0
    assert margin({"a": 2.0}, "a") == 1.0


def test_a_tally():
    good, bad = (judge_request(sight(*objects), BOTH) for objects in ((STAR, BOAT), (BOAT,)))
    single = judge_request(sight(STAR), Request((asked("star", "blue"),), "field"))
    tally = Tally([good, bad, single])
    found = tally.summary()
    assert found["n"] == 3 and found["exact"]["right"] == found["objects"]["right"] == 1
    assert found["value"] == pytest.approx((1 + 6 / 10 + 2 / 4) / 3, abs=1e-4)
    assert found["attributes"]["colour"]["right"] == 3 and found["attributes"]["colour"]["asked"] == 5
    assert "size" not in found["attributes"] and found["attributes"]["count"]["margin"] is None
    assert tally.of(2).summary()["n"] == 2 and tally.of(3).summary()["value"] is None
    assert tally.mistakes()["colour"] == [
        {"asked": "blue", "seen": "red", "count": 1},
        {"asked": "red", "seen": "nothing", "count": 1},
    ]
    assert Tally([single, bad, good]).summary() == found


def test_intervals():
    half = Tally([judge_request(sight(STAR), Request((asked("star", colour),))) for colour in ["red", "blue"] * 50])
    low, high = half.summary()["attributes"]["colour"]["interval"]
    assert (low, high) == pytest.approx((0.404, 0.596), abs=1e-3)  # Wilson's, of 50 in 100
    sure = Tally([judge_request(sight(STAR), Request((asked("star"),)))] * 200).summary()["attributes"]["object"]
    assert sure["interval"] == pytest.approx([0.9812, 1.0], abs=1e-3)


def test_a_finding_is_right_if_it_was_seen():
    assert Finding("colour", "red", "red", -0.1).right and not Finding("colour", "red", "nothing", -1.0).right
