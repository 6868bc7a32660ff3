"""Recipes: strict reading, overrides, and writing back."""

import dataclasses
import string
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cogvx.errors import CogvxError, InputError, UsageError
from cogvx.training.options_toml import dump_options
from cogvx.training.recipe import KINDS, Recipe, Stage
from cogvx.training.recipe_toml import parse_recipe, read_recipe

RECIPES = sorted((Path(__file__).parents[2] / "fixtures" / "recipes").glob("*.toml"))
SMALL = """
kind = "dit"
[model]
base = "tiny"
[optim]
lr = 1e-3
[[stages]]
steps = 10
tokens = 5000
[[stages]]
steps = 5
sizes = [[64, 96], [96, 64]]
tokens = 6000
"""


def refused(text, *changes):
    with pytest.raises(UsageError) as error:
        parse_recipe(text, name="r.toml", changes=changes)
    return str(error.value)


def test_fields_have_the_types_of_the_dataclasses():
    recipe = parse_recipe(SMALL)
    assert recipe.kind == "dit" and recipe.model.base == "tiny" and recipe.optim.lr == 1e-3
    assert recipe.stages[1].sizes == ((64, 96), (96, 64)) and recipe.num_steps == 15
    assert recipe.data.captions == {"caption": 1.0}
    assert isinstance(parse_recipe(SMALL, changes=["data.fps=16"]).data.fps, float)


def test_every_step_has_its_stage():
    recipe = parse_recipe(SMALL)
    assert [recipe.stage_at(step) for step in (0, 9, 10, 14)] == [(0, 0), (0, 9), (1, 0), (1, 4)]
    with pytest.raises(UsageError):
        recipe.stage_at(15)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_ready_recipes_read_and_write_back(path):
    recipe = read_recipe(path)
    assert recipe.kind in KINDS
    assert parse_recipe(dump_options(recipe)) == recipe
    assert max(map(len, path.read_text().splitlines())) <= 120
    assert f"cogvx train {recipe.kind} fixtures/recipes/{path.name}" in path.read_text()


def test_ready_recipes_cover_what_the_paper_trains():
    names = {path.stem for path in RECIPES}
    assert {f"vae-{letter}" for letter in "abcde"} | {"vae-stage1", "vae-stage2", "dit-2b", "dit-5b"} <= names
    assert {f"lora-{model}" for model in ("2b", "5b", "5b-i2v", "1.5-5b", "1.5-5b-i2v")} <= names
    four = read_recipe(next(path for path in RECIPES if path.stem == "dit-5b")).stages
    assert [stage.steps for stage in four] == [400_000, 220_000, 120_000, 10_000]
    assert [stage.packs for stage in four] == [2000, 1000, 250, 100]
    assert [stage.tokens for stage in four] == [25_000, 75_000, 700_000, 700_000]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("optim.lr=1e-4", None),
        ("optim.name=muon", None),
        ('optim.name="muon"', None),
        ("stages.0.steps=7", None),
        ("stages=[{steps=1, tokens=9000}]", None),
        ("data.train=[\"a.jsonl\", 'b.jsonl']", None),
        ("data.train=a.jsonl", None),
        ("data.captions={short=0.5, dense=0.5}", None),
        ("data.captions.short=2", None),
        ("model.transformer.num_layers=2", None),
        ("optim.betas=[0.9, 0.99]", None),
        ("optim.rl=1e-4", "--set optim.rl=1e-4: unknown key optim.rl; did you mean optim.lr"),
        ("lr=1e-4", "did you mean optim.lr or stages.0.lr?"),
        ("optm.lr=1", "did you mean optim"),
        ("stages.0.stpes=1", "did you mean stages.0.steps"),
        ("stages.2.steps=1", "stages has the entries 0 to 1"),
        ("stages.first.steps=1", "stages has the entries 0 to 1"),
        ("optim.lr.x=1", "optim.lr is no table"),
        ("optim.lr=fast", "--set optim.lr=fast: optim.lr must be a number, got 'fast'"),
        ("optim.lr=nan", "must be a number"),
        ("optim.lr=-1", "must be above 0"),
        ("optim.betas=[0.9]", "must have 2 entries"),
        ("optim.betas=[0.9, 1.5]", "at least 0 and at most"),
        ("optim.name=adam", "one of adamw, muon, adamw8bit"),
        ("run.shard=1", "must be true or false"),
        ("stages.0.steps=1.5", "must be a whole number"),
        ("stages.0.steps=true", "must be a whole number"),
        ("stages.0.max_frames=48", "max_frames must be 8k + 1, got 48; use 41 or 49"),
        ("stages.0.sizes=[[480, 721]]", "multiples of 16"),
        ("stages=[]", "at least one [[stages]]"),
        ("model.parts.vea=tiny", "unknown part model.parts.vea"),
        ("data.captions={short=0}", "the share 0"),
        ("data.where=flow >= q0.2 and split == 'train'", None),
        ("stages.1.where='aesthetic > 5'", None),
        ("data.rejected=true", None),
        ("data.where=flow >", "--set data.where=flow >: data.where: the expression ends where"),
        ("stages.1.where=flow", "stages.1.where: a condition is needed here"),
        ("kind=lora8", "one of vae, dit, i2v, lora"),
        ("kind=vae", None),
        ("model.base=''", "name a model.base"),
        ("optim.lr", "write KEY=VALUE"),
        ("=3", "write KEY=VALUE"),
        ("seed=1979-05-27", "must be a whole number"),
        ("model.transformer.x=1979-05-27", "cannot be"),
    ],
)
def test_overrides(change, words):
    if words is None:
        parse_recipe(SMALL, changes=[change])
    else:
        assert words in refused(SMALL, change)


def test_later_overrides_win():
    recipe = parse_recipe(SMALL, changes=["optim.lr=1", "stages.1.steps=2", "optim.lr=2"])
    assert recipe.optim.lr == 2 and recipe.stages[1].steps == 2


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("lr = 1e-3", "lrr = 1e-3", "r.toml:6: unknown key optim.lrr; did you mean optim.lr?"),
        ("[optim]", "[optin]", "r.toml:5: unknown key optin; did you mean optim"),
        ("steps = 5", 'steps = "5"', "r.toml:11: stages.1.steps must be a whole number, got '5'"),
        ("steps = 5", "steps = 0", "r.toml:11: stages.1.steps must be at least 1, got 0"),
        ('kind = "dit"', "", "missing key kind (one of vae, dit, i2v, lora, captioner, dual-encoder)"),
        ("lr = 1e-3", "lr = ", "not TOML"),
        ("[[stages]]\nsteps = 10", "[stages]\nsteps = 10", "not TOML"),
        ('kind = "dit"', 'kind = "dit"\nvae = 3', "r.toml:3: vae must be a table, got 3"),
        ("lr = 1e-3", "lr = " + "[" * 5000, "not TOML"),
        ("lr = 1e-3", "warmup = " + "9" * 5000, "r.toml"),
    ],
)
def test_errors_name_file_line_and_key(old, new, words):
    assert words in refused(SMALL.replace(old, new))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="cannot read the recipe"):
        read_recipe(tmp_path / "none.toml")
    with pytest.raises(InputError, match="recipe.toml"):
        read_recipe(tmp_path)
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="UTF-8"):
        read_recipe(path)
    path.write_text(SMALL)
    assert read_recipe(tmp_path) == parse_recipe(SMALL)
    with pytest.raises(UsageError, match="kind dit: run `cogvx train dit"):
        read_recipe(path, kind="vae")


def test_a_written_recipe_has_every_field():
    recipe = parse_recipe(SMALL)
    table = tomllib.loads(dump_options(recipe))
    for item in dataclasses.fields(Recipe):
        value = getattr(recipe, item.name)
        if dataclasses.is_dataclass(value):
            assert set(table[item.name]) == {field.name for field in dataclasses.fields(value)}
    assert set(table["stages"][0]) == {field.name for field in dataclasses.fields(Stage)}


TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)
NUMBER = st.floats(1e-6, 1, allow_nan=False) | st.integers(1, 9)
PLAIN = st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | TEXT
NESTED = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**63 - 1),
    names=st.dictionaries(TEXT, NUMBER, min_size=1, max_size=3),
    config=st.dictionaries(TEXT, NESTED, max_size=4),
    prompts=st.lists(TEXT, max_size=3),
    lr=st.floats(1e-12, 10),
)
def test_writing_and_reading_gives_the_same_recipe(seed, names, config, prompts, lr):
    recipe = parse_recipe(SMALL)
    floats = {key: float(value) for key, value in names.items()}
    recipe = dataclasses.replace(
        recipe,
        seed=seed,
        data=dataclasses.replace(recipe.data, captions=floats, min_scores=floats),
        model=dataclasses.replace(recipe.model, transformer=config),
        optim=dataclasses.replace(recipe.optim, lr=lr),
        preview=dataclasses.replace(recipe.preview, prompts=tuple(prompts)),
        stages=tuple(dataclasses.replace(stage, min_scores=floats) for stage in recipe.stages),
    )
    assert parse_recipe(dump_options(recipe)) == recipe


KEYS = [f"{item.name}.{field.name}" for item in dataclasses.fields(Recipe) if dataclasses.is_dataclass(item.type)
        for field in dataclasses.fields(item.type)]  # fmt: skip
KEYS += ["kind", "seed", "stages", "stages.0", "stages.0.sizes", "stages.0.sizes.0", "model.vae.x", "data.captions.y"]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    key=st.sampled_from(KEYS) | st.text(string.ascii_letters + string.digits + '._-"[]= ', max_size=20),
    value=st.text(max_size=20) | PLAIN.map(str),
)
def test_any_override_is_taken_or_refused(key, value):
    try:
        recipe = parse_recipe(SMALL, changes=[f"{key}={value}"])
    except CogvxError as error:
        assert error.exit_code == 2 and "\n" not in str(error).replace(value, "").replace(key, "")
    else:
        assert parse_recipe(dump_options(recipe)) == recipe


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60), at=st.integers(0, len(SMALL)), length=st.integers(0, 20))
def test_any_file_is_taken_or_refused(text, at, length):
    try:
        parse_recipe(SMALL[:at] + text + SMALL[at + length :])
    except CogvxError as error:
        assert error.exit_code == 2
