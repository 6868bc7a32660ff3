"""Sample clips of a model that is being trained."""

from pathlib import Path

import torch
from torch import Tensor

from cogvx.data.video import read_image, resize_crop, to_video, write_clip
from cogvx.generate.generator import Generator
from cogvx.generate.options import GenerateOptions, Runtime
from cogvx.generate.parts import LoadedParts
from cogvx.models.text_encoder import TextEncoder
from cogvx.models.transformer import ExpertTransformer
from cogvx.models.vae import CausalVAE
from cogvx.presets import read_defaults
from cogvx.training.recipe import Recipe, Stage
from cogvx.training.start import StartingModel


def make_previews(
    folder: Path,
    model: StartingModel,
    recipe: Recipe,
    *,
    stage: Stage,
    transformer: ExpertTransformer,
    text_encoder: TextEncoder,
    vae: CausalVAE,
    device: torch.device,
    write: bool,
) -> list[Path]:
    """Write `00.mp4`, `01.mp4` ..., a clip for each of the recipe's prompts, and return them.

    The noise of a clip is the same each time, so that the clips of a run can be laid beside each other.

    Args:
        folder: Where they go.
        model: What the run started from; it says how clips are sampled.
        recipe: The run.
        stage: Its sizes are those of the clips.
        transformer: The transformer.
        text_encoder: The text encoder.
        vae: The VAE.
        device: Where they are.
        write: Whether this process writes; all ranks must compute.
    """
    parts = LoadedParts(vae=vae, transformer=transformer, text_encoder=text_encoder, schedule=model.schedule)
    # Weights are float32 or of mixed types while they are trained: the caller's autocast chooses the arithmetic.
    runtime = Runtime(device=device, dtype=torch.float32, attention=transformer.attention_backend)
    generator = Generator(parts, vae=model.vae_config, transformer=transformer.config, runtime=runtime)
    images: list[str | None] = [*recipe.preview.images] or [None] * len(recipe.preview.prompts)
    paths = []
    for number, (prompt, image) in enumerate(zip(recipe.preview.prompts, images, strict=True)):
        options = _options(prompt, number, model, recipe, stage, transformer)
        pixels = None if image is None or not generator.takes_image else _first_frame(image, options)
        frames = generator.generate(options, image=pixels).frames
        assert frames is not None
        if write:
            paths.append(folder / f"{number:02d}.mp4")
            write_clip(paths[-1], frames, recipe.data.fps, overwrite=True)
    return paths


def _options(
    prompt: str, seed: int, model: StartingModel, recipe: Recipe, stage: Stage, transformer: ExpertTransformer
) -> GenerateOptions:
    base = model.folders["transformer"].configs["model_index"] if "transformer" in model.folders else {}
    defaults = read_defaults({"transformer": transformer.config.to_dict(), "model_index": base})
    height, width = max(stage.sizes, key=lambda size: size[0] * size[1])
    return GenerateOptions(
        prompt=prompt,
        height=height,
        width=width,
        num_frames=stage.max_frames,
        num_steps=recipe.preview.steps or defaults.num_steps,
        guidance_scale=recipe.preview.guidance_scale or defaults.guidance_scale,
        dynamic_guidance=defaults.dynamic_guidance,
        scheduler=defaults.scheduler,
        seed=seed,
        image_latent_scale="scaled" if recipe.diffusion.image_latent == "sat" else "auto",
    )


def _first_frame(path: str, options: GenerateOptions) -> Tensor:
    frame = resize_crop(read_image(Path(path))[None], options.height, options.width)
    return to_video(frame)[:, 0]
