"""`cogvx train`: recipes in, trained models out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ._options import Device, DryRun, Json, Overwrite, Quiet, with_flags

app = typer.Typer(no_args_is_help=True)

RecipeFile = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="A recipe (TOML), - for stdin, or a run folder (its recipe).", show_default=False
    ),
]
Manifest = Annotated[
    str | None,
    typer.Argument(metavar="[MANIFEST]", help="Clips to train on, in place of data.train.", show_default=False),
]


@app.callback()
def train() -> None:
    r"""Train a VAE, a transformer, a LoRA, a captioner or a filter from a recipe, on one device or many.

    A recipe is a TOML file; any field of it can be set on the command line. The run folder gets recipe.toml,
    metrics.jsonl, checkpoints, samples and model/, the result. Ready recipes are in fixtures/recipes.

    \b
    Examples:
      cogvx train lora fixtures/recipes/lora-5b.toml clips.jsonl --dry-run
      cogvx train lora fixtures/recipes/lora-5b.toml clips.jsonl -o runs/style --set lora.rank=64
      cogvx train lora runs/style --resume latest
      torchrun --nproc-per-node 8 -m cogvx train dit fixtures/recipes/high-quality.toml clips.jsonl
      cogvx train plot runs/style runs/other -o curves.png
    """


@dataclass(frozen=True, kw_only=True)
class RunFlags:
    """The flags of every training."""

    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set a field of the recipe, such as optim.lr=1e-4 or stages.0.steps=10; repeatable.",
            show_default=False,
        ),
    ] = None
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume",
            metavar="latest|PATH",
            help="Go on from the newest whole checkpoint of the run, or from this one.",
            show_default=False,
        ),
    ] = None
    allow_changes: Annotated[
        bool,
        typer.Option(
            "--resume-allow-changes",
            "--allow-changes",
            help="Go on although recipe, data or machine differ, so that the result is not that of one run.",
            show_default=False,
        ),
    ] = False
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            "--output-path",
            metavar="RUN",
            rich_help_panel="Output",
            help="The run folder. Default: runs/ and the name of the recipe.",
            show_default=False,
        ),
    ] = None
    device: Device = None
    dry_run: DryRun = False
    json: Json = False
    quiet: Quiet = False


@dataclass(frozen=True, kw_only=True)
class TrainFlags(RunFlags):
    """The flags of the trainings that take steps."""

    plot: Annotated[
        bool,
        typer.Option(
            "--plot",
            rich_help_panel="Output",
            help="Write curves.png into the run folder at the end.",
            show_default=False,
        ),
    ] = False
    devices: Annotated[
        int | None,
        typer.Option(
            "--devices",
            metavar="N",
            min=1,
            rich_help_panel="Machine",
            help="With --dry-run: plan for N devices.",
            show_default=False,
        ),
    ] = None


@app.command()
@with_flags(TrainFlags)
def vae(recipe: RecipeFile, manifest: Manifest = None, *, flags: TrainFlags) -> None:
    r"""Train a 3D causal VAE: errors, perceptual term and divergence, then a discriminator.

    \b
    Examples:
      cogvx train vae fixtures/recipes/vae-stage1.toml clips.jsonl -o runs/vae
      cogvx train vae fixtures/recipes/storyboard-vae-stills.toml --set stages.0.steps=100 --plot
    """
    from ._train import run_training

    run_training("vae", recipe, manifest, flags)


@app.command()
@with_flags(TrainFlags)
def dit(recipe: RecipeFile, manifest: Manifest = None, *, flags: TrainFlags) -> None:
    r"""Train a text-to-video transformer, from nothing in several stages or from a checkpoint.

    \b
    Examples:
      cogvx train dit fixtures/recipes/dit-2b.toml --dry-run --devices 80
      cogvx train dit fixtures/recipes/storyboard-dit.toml -o runs/storyboard-dit
      torchrun --nproc-per-node 8 -m cogvx train dit fixtures/recipes/high-quality.toml clips.jsonl
    """
    from ._train import run_training

    run_training("dit", recipe, manifest, flags)


@app.command()
@with_flags(TrainFlags)
def i2v(recipe: RecipeFile, manifest: Manifest = None, *, flags: TrainFlags) -> None:
    r"""Train an image-to-video transformer from a text-to-video one, or go on with an image-to-video one.

    \b
    Examples:
      cogvx train i2v fixtures/recipes/i2v-5b.toml clips.jsonl -o runs/i2v
      cogvx train i2v fixtures/recipes/storyboard-i2v.toml -o runs/storyboard-i2v --set optim.lr=1e-3
    """
    from ._train import run_training

    run_training("i2v", recipe, manifest, flags)


@app.command()
@with_flags(TrainFlags)
def lora(recipe: RecipeFile, manifest: Manifest = None, *, flags: TrainFlags) -> None:
    r"""Train a LoRA for a text- or image-to-video model; the file says its rank and alpha.

    \b
    Examples:
      cogvx train lora fixtures/recipes/lora-5b.toml clips.jsonl -o runs/style
      cogvx train lora fixtures/recipes/lora-1.5-5b-i2v.toml clips.jsonl --set optim.name=adamw8bit
      cogvx train lora fixtures/recipes/lora-2b.toml clips.jsonl --set lora.start=old.safetensors
    """
    from ._train import run_training

    run_training("lora", recipe, manifest, flags)


@app.command()
@with_flags(TrainFlags)
def captioner(recipe: RecipeFile, manifest: Manifest = None, *, flags: TrainFlags) -> None:
    r"""Train the small captioner that `cogvx caption` and `v2v` use, over the latents of a VAE.

    The result has the VAE too: `cogvx caption CLIP -m RUN/model`.

    \b
    Examples:
      cogvx train captioner fixtures/recipes/storyboard-captioner.toml -o runs/captioner
      cogvx train captioner fixtures/recipes/storyboard-captioner.toml --set captioner.temporal=0.01 --dry-run
    """
    from ._train import run_training

    run_training("captioner", recipe, manifest, flags)


@app.command("dual-encoder")
@with_flags(TrainFlags)
def dual_encoder(recipe: RecipeFile, manifest: Manifest = None, *, flags: TrainFlags) -> None:
    r"""Train a small pair of encoders, of clips and captions, into one space (contrastive).

    \b
    Examples:
      cogvx train dual-encoder fixtures/recipes/storyboard-dual-encoder.toml -o runs/pair
      cogvx train dual-encoder fixtures/recipes/storyboard-dual-encoder.toml --set stages.0.batch_size=128
    """
    from ._train import run_training

    run_training("dual-encoder", recipe, manifest, flags)


@app.command("filter")
@with_flags(RunFlags)
def train_filter(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|MANIFEST",
            help="A recipe (TOML), - for stdin, a run folder (its recipe), or a manifest (.jsonl) with labels.",
            show_default=False,
        ),
    ],
    manifest: Manifest = None,
    *,
    flags: RunFlags,
) -> None:
    r"""Train a filter that labels clips as you labelled some: a few hundred are enough, and seconds.

    It learns from each clip's scores (`cogvx data score`) and from features of its frames, by logistic regression. One
    tenth of the clips is held out, by source; the run folder has metrics.json with the numbers of each label on them
    (TP, FP, TN, FN and accuracy as Table 14 of the CogVideoX paper), predictions.jsonl, and the filter in model/ for
    `cogvx data label --labeller filter --filter RUN`. Features are kept: a run that was stopped and is started again
    with --resume latest reads no clip twice, and one that was done is left as it is.

    \b
    Examples:
      cogvx train filter labelled.jsonl -o runs/filter
      cogvx train filter labelled.jsonl -o runs/filter --set fit.objective=balanced --set data.test_ratio=0.2
      cogvx train filter filter.toml labelled.jsonl -o runs/filter --set frames.network=clip:models/clip-vit-b-32
    """
    from ._train_filter import run_filter_training

    run_filter_training(recipe, manifest, flags)


@app.command()
def plot(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            "--output-path",
            metavar="FILE",
            rich_help_panel="Output",
            help="The PNG. Default: curves.png in the first run folder.",
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    r"""Draw the training loss, the held-out loss at each diffusion time and the learning rate of runs as a PNG.

    The curves.png of a run folder is always drawn anew; another file that exists is kept unless --overwrite.

    \b
    Examples:
      cogvx train plot runs/style
      cogvx train plot runs/with runs/without -o compared.png
    """
    from ._train import plot_runs

    plot_runs(runs, output, overwrite=overwrite, json=json)
