"""Recipes in TOML: what options_toml reads, and that its fields go together."""

import typing
from collections.abc import Callable, Sequence
from pathlib import Path

from cogvx.data.select import parse_condition
from cogvx.errors import UsageError
from cogvx.training.options_toml import parse_placed, read_text
from cogvx.training.recipe import CLIP_TEXT, Kind, Recipe


def read_recipe(path: Path | str, *, changes: Sequence[str] = (), kind: Kind | None = None) -> Recipe:
    """Read a recipe from a file.

    Args:
        path: A TOML file, a run folder (its recipe.toml), or "-" for stdin.
        changes: `key=value` texts that override the file, in order: `optim.lr=1e-4`, `stages.0.steps=10`. Values are
            TOML; what is not TOML is taken as text.
        kind: What the recipe must train, if that is known already.

    Raises:
        InputError: The file cannot be read.
        UsageError: It is no TOML, or a key is unknown or has a value of the wrong type or out of range.
    """
    text, name = read_text(path)
    recipe = parse_recipe(text, name=name, changes=changes)
    if kind is not None and recipe.kind != kind:
        raise UsageError(f"{name} is a recipe of kind {recipe.kind}: run `cogvx train {recipe.kind} {name}`")
    return recipe


def parse_recipe(text: str, *, name: str = "recipe.toml", changes: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a TOML text; see read_recipe."""
    recipe, place = parse_placed(Recipe, text, name=name, changes=changes)
    _check(recipe, place)
    return recipe


def _check(recipe: Recipe, place: Callable[[str], str]) -> None:
    """Refuse fields that do not go together; place tells where a key stands.

    Raises:
        UsageError: Which and why.
    """

    def refuse(key: str, why: str) -> typing.NoReturn:
        raise UsageError(f"{place(key)}: {why}")

    if not recipe.stages:
        refuse("stages", "a recipe needs at least one [[stages]] with its steps")
    if recipe.kind in ("i2v", "lora") and not recipe.model.base:
        refuse("model", f"a recipe of kind {recipe.kind} needs model.base, the model that it starts from")
    if recipe.kind in CLIP_TEXT:
        if not recipe.model.base and "vae" not in recipe.model.parts and not recipe.model.vae:
            refuse("model", f"a recipe of kind {recipe.kind} needs a VAE that encodes clips: model.base or parts.vae")
        for table in ("captioner", "dual_encoder"):
            if getattr(recipe, table).hidden_size % 2:
                refuse(f"{table}.hidden_size", f"{table}.hidden_size is shared by two directions: it must be even")
    elif not recipe.model.base and not (recipe.model.vae if recipe.kind == "vae" else recipe.model.transformer):
        part = "vae" if recipe.kind == "vae" else "transformer"
        refuse("model", f"name a model.base to start from, or give [model.{part}] to start from nothing")
    parts = ("vae", "text_encoder", "tokenizer", "transformer", "scheduler")
    for part in recipe.model.parts:
        if part not in parts:
            refuse(f"model.parts.{part}", f"unknown part model.parts.{part}; parts are {', '.join(parts)}")
    if recipe.data.captions and not sum(recipe.data.captions.values()):
        refuse("data.captions", "data.captions gives every kind of caption the share 0")
    for key, where in [("data", recipe.data.where), *((f"stages.{i}", s.where) for i, s in enumerate(recipe.stages))]:
        try:
            if where:
                parse_condition(where)
        except UsageError as error:
            refuse(f"{key}.where", f"{key}.where: {error}")
    unit = 8 if recipe.kind == "vae" or recipe.kind in CLIP_TEXT else 16
    for i, stage in enumerate(recipe.stages):
        key = f"stages.{i}"
        if (stage.max_frames - 1) % 8:
            low = (stage.max_frames - 1) // 8 * 8 + 1
            refuse(
                f"{key}.max_frames", f"{key}.max_frames must be 8k + 1, got {stage.max_frames}; use {low} or {low + 8}"
            )
        if recipe.kind in CLIP_TEXT and stage.batch_size % stage.packs:
            refuse(f"{key}.packs", f"{key}: {stage.batch_size} clips cannot be cut into {stage.packs} equal packs")
        if not stage.sizes:
            refuse(f"{key}.sizes", f"{key}.sizes is empty; give [[height, width]]")
        for size in stage.sizes:
            if any(side % unit for side in size):
                refuse(f"{key}.sizes", f"{key}.sizes must be multiples of {unit}, got {list(size)}")
