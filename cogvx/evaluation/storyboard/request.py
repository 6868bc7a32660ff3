"""What a clip was asked to show: from its truth, or read from its prompt."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cogvx.data.storyboard.spec import SceneSpec
from cogvx.data.storyboard.vocabulary import MAX_OBJECTS, actions_of, colours_in
from cogvx.errors import InputError

# What a person does, and what anything else does that moves the same way.
_OF_A_PERSON = {"move_left": "walk_left", "move_right": "walk_right", "bounce": "jump"}
_OF_OTHERS = {other: name for name, other in _OF_A_PERSON.items()}


@dataclass(frozen=True)
class AskedObject:
    """One object, by names of the world; None for what was left open."""

    kind: str | None = None
    colour: str | None = None
    size: str | None = None
    action: str | None = None


@dataclass(frozen=True)
class Request:
    """A clip as it was asked for; None for what was left open."""

    objects: tuple[AskedObject, ...] = ()
    scene: str | None = None
    style: str | None = None
    camera: str | None = None

    @classmethod
    def from_truth(cls, truth: Mapping[str, Any]) -> "Request":
        """Ask for everything that the truth of a Storyboard clip says.

        Raises:
            InputError: It is not the truth of a legal scene.
        """
        spec = SceneSpec.from_dict(dict(truth))
        objects = tuple(AskedObject(one.kind, one.colour, one.size, one.action) for one in spec.objects)
        return cls(objects, spec.scene, spec.style, spec.camera)

    def to_dict(self) -> dict[str, Any]:
        """Return what was asked for as JSON values, without what was left open."""
        record: dict[str, Any] = {
            name: getattr(self, name) for name in ("scene", "style", "camera") if getattr(self, name) is not None
        }
        objects = [{key: value for key, value in vars(one).items() if value is not None} for one in self.objects]
        return record | {"objects": objects}

    def check(self) -> "Request":
        """Return the request itself, if a clip of the world can show it.

        Raises:
            InputError: It cannot: too many objects, an action that a kind does not have, a colour that is not seen.
        """
        for problem in self._problems():
            raise InputError(f"no clip of Storyboard shows {problem}")
        return self

    def _problems(self) -> Iterator[str]:
        if not 1 <= len(self.objects) <= MAX_OBJECTS:
            yield f"{len(self.objects)} objects; from 1 to {MAX_OBJECTS} are possible"
        for one in self.objects:
            if one.kind and one.action and one.action not in actions_of(one.kind):
                yield f"a {one.kind} that does {one.action!r}; choose from {', '.join(actions_of(one.kind))}"
            if one.colour and self.scene and one.colour not in colours_in(self.scene, self.style or "flat"):
                yield f"a {one.colour} object in the scene {self.scene!r}: it would not be seen"


def action_of(kind: str | None, action: str) -> str:
    """Return how the world calls an action of a kind: a person walks where a car moves, a ball bounces.

    Args:
        kind: Of the object; None if it is not known.
        action: As it is called for some kind.
    """
    if kind is None:
        return action
    return (_OF_A_PERSON if kind == "person" else _OF_OTHERS).get(action, action)
