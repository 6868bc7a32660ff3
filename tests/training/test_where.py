"""Conditions in recipes: which clips a stage trains on, and that runs without one go on from older checkpoints."""

import dataclasses
import json

import pytest
from toy_task import ToyTask, toy_recipe

from cogvx.data.manifest import write_manifest
from cogvx.data.storyboard.synth import SynthOptions, synthesise
from cogvx.distributed import alone
from cogvx.training.engine import fingerprint
from cogvx.training.recipe import DataOptions, ModelOptions, Recipe, Stage
from cogvx.training.stages import open_held_out, open_stages, opener
from cogvx.training.vae_data import open_clips


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Six clips with a score from 0 to 5; the first is held out, the last rejected."""
    folder = tmp_path_factory.mktemp("where")
    made = synthesise(folder, SynthOptions(6, 0, 9, 32, 48, 8.0, form="mkv")).manifest
    rows = [json.loads(line) for line in made.read_text().splitlines()]
    for i, row in enumerate(rows):
        row |= {"scores": {"flow": i}, "split": "validation" if i == 0 else "train"}
        row |= {"rejected": ["dark"]} if i == 5 else {}
    write_manifest(folder / "scored.jsonl", rows)
    return folder / "scored.jsonl"


def make_recipe(manifest, kind="dit", *, stages=("",), **data):
    sizes = {"sizes": ((32, 48),), "max_frames": 9, "steps": 1, "tokens": 10_000}
    return Recipe(
        kind=kind,
        model=ModelOptions(base="tiny"),
        data=DataOptions(train=(str(manifest),), **data),
        stages=tuple(Stage(where=where, **sizes) for where in stages),
    )


def test_each_stage_shifts_the_threshold(manifest):
    recipe = make_recipe(manifest, where="flow >= q0.25", stages=("", "flow >= q0.5", "flow >= q0.75"))
    stages, held_out = open_clips(dataclasses.replace(recipe, kind="vae"))
    assert [len(stage.clips[0]) for stage in stages] == [4, 3, 2] and len(held_out) == 1
    assert len(open_clips(make_recipe(manifest, "vae", where="flow >= q0.5", rejected=True))[0][0].clips[0]) == 3


def test_a_transformers_stages_too(manifest):
    from cogvx.models.transformer import TransformerConfig
    from cogvx.models.vae import VAEConfig

    recipe = make_recipe(manifest, where="flow >= q0.25", stages=("", "flow > 3"))
    networks = {"vae": VAEConfig.from_dict({}), "transformer": TransformerConfig.from_dict({})}
    opened = opener(recipe, cache=None, with_image=False)
    assert [len(stage.items(0)) for stage in open_stages(recipe, opened, **networks)] == [4, 1]
    assert len(open_held_out(recipe, opened, **networks)) == 1


def test_only_what_is_said_is_part_of_a_checkpoints_identity():
    recipe = toy_recipe()
    plain = fingerprint(ToyTask(recipe, alone()), recipe, alone())
    assert not any("where" in name or name == "data.rejected" for name in plain)
    assert not any("where" in stage for stage in plain["stages"])
    told = dataclasses.replace(
        recipe,
        data=dataclasses.replace(recipe.data, where="x > 1", rejected=True),
        stages=tuple(dataclasses.replace(stage, where="x > 2") for stage in recipe.stages),
    )
    changed = fingerprint(ToyTask(told, alone()), told, alone())
    assert (changed["data.where"], changed["data.rejected"]) == ("x > 1", True)
    assert {stage["where"] for stage in changed["stages"]} == {"x > 2"}
