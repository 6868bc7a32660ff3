"""What a training run is told: one frozen dataclass a table of the recipe, with the range of every number beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cogvx.errors import UsageError

Kind = Literal["vae", "dit", "i2v", "lora", "captioner", "dual-encoder"]
KINDS: tuple[Kind, ...] = ("vae", "dit", "i2v", "lora", "captioner", "dual-encoder")
# Small networks that see clips and captions: no transformer, and a step has so many clips instead of tokens.
CLIP_TEXT: tuple[Kind, ...] = ("captioner", "dual-encoder")


def _within(
    default: Any, *, least: float | None = None, most: float | None = None, above: float | None = None
) -> Any:  # a field of whatever type
    """Return a field whose number, or each of whose numbers, must lie in a range; recipe_toml checks it."""
    limits = {"least": least, "most": most, "above": above}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=limits)
    return field(default=default, metadata=limits)


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which networks are trained and used.

    A part is made from nothing if its table is given, else read from `parts`, else from `base`.

    Attributes:
        base: A model's name, folder or repository, as `--model` takes it; empty: every part has a table.
        parts: Part ("vae", "text_encoder", "tokenizer", "scheduler", …) -> the model it comes from, in place of base.
        transformer: Content of a new transformer's `config.json`; keys left out have the released 2b's values.
        vae: Content of a new VAE's `config.json`.
        text_encoder: Content of a new T5 encoder's `config.json`.
        train_text: Train the text encoder together with the transformer.
    """

    base: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)
    transformer: Mapping[str, Any] = field(default_factory=dict)
    vae: Mapping[str, Any] = field(default_factory=dict)
    text_encoder: Mapping[str, Any] = field(default_factory=dict)
    train_text: bool = False


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """What is trained on. Paths are relative to the working folder.

    Attributes:
        train: Manifests.
        validation: Manifests of the held-out clips; empty: entries of `train` whose split is "validation" or "test".
        root: Folder that the manifests' paths must stay inside; empty: each manifest's own.
        cache: Folder of latents and text embeddings made by `data encode`; empty: raw clips are encoded on the way.
        fps: Frames a second that clips are resampled to.
        captions: Field of an entry ("caption", or a stage of "captions") -> its share.
        caption_dropout: Share of clips trained without their caption.
        image_dropout: Share of clips trained without their first frame (image-to-video).
        min_scores: Score -> the least value that an entry needs.
        where: Condition that an entry must fulfil too, as `data select --where` takes it; quantiles are over all
            entries of `train`. Held-out clips need not fulfil it.
        rejected: Train on entries that were rejected too.
        max_bad: Entries that may be unreadable before the run stops; each is listed.
        workers: Threads that read ahead.
    """

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    root: str = ""
    cache: str = ""
    fps: float = _within(8.0, above=0, most=1000)
    captions: Mapping[str, float] = _within({"caption": 1.0}, least=0)
    caption_dropout: float = _within(0.1, least=0, most=1)
    image_dropout: float = _within(0.05, least=0, most=1)
    min_scores: Mapping[str, float] = field(default_factory=dict)
    where: str = ""
    rejected: bool = False
    max_bad: int = _within(0, least=0)
    workers: int = _within(0, least=0, most=256)


@dataclass(frozen=True, kw_only=True)
class OptimOptions:
    """How weights move.

    Attributes:
        name: AdamW, Muon for hidden layers with AdamW for the rest, or AdamW with 8-bit states (CUDA only).
        lr: Peak learning rate; a stage may have its own.
        adam_share: That of the weights that AdamW moves beside Muon, as a share of lr.
        text_share: That of a text encoder trained along, as a share of the transformer's.
        betas: Decay of Adam's two means.
        eps: Added to Adam's root.
        weight_decay: Norms and biases have none.
        warmup: Steps in which the learning rate rises.
        decay: How it falls after that, over the steps of the whole run; "trapezoid" falls in the last 40 %.
        clip: Largest norm of the gradient; 0: no limit.
        ema: Share of the running mean of the weights that is kept each step; 0: no running mean.
    """

    name: Literal["adamw", "muon", "adamw8bit"] = "adamw"
    lr: float = _within(1e-4, above=0, most=10)
    adam_share: float = _within(1.0, above=0, most=100)
    text_share: float = _within(1.0, above=0, most=100)
    betas: tuple[float, float] = _within((0.9, 0.95), least=0, most=0.999999)
    eps: float = _within(1e-8, above=0, most=1)
    weight_decay: float = _within(1e-4, least=0, most=1)
    warmup: int = _within(100, least=0)
    decay: Literal["cosine", "linear", "constant", "trapezoid"] = "cosine"
    clip: float = _within(1.0, least=0)
    ema: float = _within(0.9999, least=0, most=0.9999999)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Machine, logs and checkpoints; none of it changes what is learned, but dtype.

    Attributes:
        accumulate: Micro batches that a rank cuts its clips of a step into (VAE; a transformer's is one pack).
        dtype: Of the arithmetic; weights and optimizer stay in fp32. "auto": bf16 on CUDA, fp32 elsewhere.
        attention: Of the transformer: PyTorch's kernels, the flash-attn package, or the plain formula, which is the
            fastest for short sequences on a CPU; "auto" takes flash where it can run.
        activation_checkpointing: Compute blocks again on the way back instead of keeping their activations.
        shard: Spread weights, gradients and optimizer over the data ranks (FSDP2).
        context: Ranks that share one clip along its sequence (transformer) or its frames (VAE).
        compile: Compile the blocks.
        log_every: Steps between two lines of metrics.
        save_every: Steps between two checkpoints.
        keep: Checkpoints that stay.
        validate_every: Steps between two validations; 0: never.
        preview_every: Steps between two rounds of sample clips; 0: never.
        tensorboard: Write TensorBoard's files too.
        wandb: Project of Weights & Biases to log to; empty: none.
    """

    accumulate: int = _within(1, least=1)
    dtype: Literal["auto", "bf16", "fp32"] = "auto"
    attention: Literal["auto", "sdpa", "flash", "reference"] = "auto"
    activation_checkpointing: bool = False
    shard: bool = False
    context: int = _within(1, least=1)
    compile: bool = False
    log_every: int = _within(10, least=1)
    save_every: int = _within(500, least=1)
    keep: int = _within(2, least=1)
    validate_every: int = _within(500, least=0)
    preview_every: int = _within(0, least=0)
    tensorboard: bool = False
    wandb: str = ""


@dataclass(frozen=True, kw_only=True)
class DiffusionOptions:
    """What the transformer learns to undo.

    Attributes:
        explicit_uniform: One diffusion time from each of n equal intervals, n the clips of a step; else independent.
        time_power: Times are u^time_power of the whole, u uniform in [0, 1): below 1, more clips have much noise.
        positions: Rotary positions of sizes other than the model's own: "fit" as the released models sample,
            "extrapolate" plain integers, "interpolate" stretched onto the model's own grid.
        dropped_caption: What stands for a caption that is left out: the embedding of the empty prompt, as when sampling
            with diffusers, or zeros, as in the official training code.
        image_latent: Image latents of the 1.5 models: times 1 / 0.7 ("diffusers") or times 0.7 ("sat").
        image_noise_mean: Mean of the logarithm of the noise added to the first frame, in pixels of [-1, 1].
        image_noise_std: Its standard deviation.
        ofs: Second scalar of the 1.5 image-to-video model.
    """

    explicit_uniform: bool = True
    time_power: float = _within(1.0, above=0, most=10)
    positions: Literal["fit", "extrapolate", "interpolate"] = "fit"
    dropped_caption: Literal["empty", "zero"] = "empty"
    image_latent: Literal["diffusers", "sat"] = "diffusers"
    image_noise_mean: float = -3.0
    image_noise_std: float = _within(0.5, least=0)
    ofs: float = 2.0


@dataclass(frozen=True, kw_only=True)
class VAEOptions:
    """The VAE's loss: weighted errors, a perceptual term, the divergence, and after a while a discriminator.

    Attributes:
        l1: Weight of the mean absolute error.
        l2: Weight of the mean squared error.
        flicker: Weight of the mean absolute error of the changes from frame to frame.
        perceptual: Network of the perceptual term.
        perceptual_weight: Its weight.
        kl: Weight of the divergence from the standard normal, in nats a latent value.
        gan_start: Step, counted over the whole run, from which the discriminator counts.
        gan_weight: Weight of its term, on top of the adaptive one; 0: no discriminator.
        gan_width: Channels of its first level.
        gan_lr: Its learning rate; 0: that of the VAE.
        norms: What group norms look at: "chunk" as the released models compute, "clip" as the official training code.
        inflate: "last": the VAE has seen images alone, which say nothing about how kernels weigh time, and starts with
            all of each kernel's weight on its last frame, so that frames are apart.
        channels: The spread of each channel of the latents of the VAE that a run leaves, by factors in its weights; its
            clips stay the same. Transformers of earlier latents do not go with it. "learned": as it came; "equal": a
            standard deviation of 1 in each; "visible": wide where noise in the channel moves pixels much, in proportion
            to the square root of that, with a mean variance of 1, so that what is seen is what a transformer learns.
        freeze: "encoder": only the decoder learns, so that latents, and what was trained on them, stay valid.
    """

    l1: float = _within(1.0, least=0)
    l2: float = _within(0.0, least=0)
    flicker: float = _within(0.0, least=0)
    perceptual: Literal["none", "lpips", "st-lpips"] = "none"
    perceptual_weight: float = _within(1.0, least=0)
    kl: float = _within(1e-6, least=0)
    gan_start: int = _within(0, least=0)
    gan_weight: float = _within(0.0, least=0)
    gan_width: int = _within(64, least=1)
    gan_lr: float = _within(0.0, least=0)
    norms: Literal["chunk", "clip"] = "chunk"
    inflate: Literal["none", "last"] = "none"
    channels: Literal["learned", "equal", "visible"] = "learned"
    freeze: Literal["none", "encoder"] = "none"


@dataclass(frozen=True, kw_only=True)
class LoRAOptions:
    """The low-rank adapter; rank and alpha are written into its file.

    Attributes:
        rank: Columns of the two factors.
        alpha: The product counts alpha / rank times.
        targets: Ends of the names of the adapted linear maps.
        start: A LoRA file to go on from; rank, alpha and targets are then the file's.
    """

    rank: int = _within(128, least=1)
    alpha: float = _within(64.0, above=0)
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    start: str = ""


@dataclass(frozen=True, kw_only=True)
class CaptionerOptions:
    """The captioner: BiLSTMs over latent frames and over the words so far, with attention between them.

    Attributes:
        grid: Height and width that a latent frame is pooled to.
        convolutions: Channels of 3x3 convolutions over the grid; none, as in the paper: a dense layer alone.
        coarse: Height and width, dividing the grid's, that the dense layer sees, beside the greatest value of each
            channel over the grid; none, as in the paper: it sees the grid.
        hidden_size: Width of features and of the states of both directions together; even.
        embed_size: Width of a word's embedding.
        joined_states: Join the encoder's states with context and features; without, as in the paper, only features.
        dropout: Share of a frame's features that is dropped.
        temporal: Weight of the temporal consistency of the features, mean ||Z_t - Z_(t+1)||^2.
        max_words: Words of the vocabulary at most, the most frequent ones of the training's captions.
    """

    grid: tuple[int, int] = _within((8, 12), least=1, most=256)
    convolutions: tuple[int, ...] = _within((), least=1, most=4096)
    coarse: tuple[int, ...] = _within((), least=1, most=256)
    hidden_size: int = _within(256, least=2, most=8192)
    embed_size: int = _within(256, least=1, most=8192)
    joined_states: bool = True
    dropout: float = _within(0.5, least=0, most=0.99)
    temporal: float = _within(0.0, least=0)
    max_words: int = _within(2000, least=1, most=100_000)


@dataclass(frozen=True, kw_only=True)
class DualEncoderOptions:
    """The dual encoder: clips and captions into one space.

    Attributes:
        grid: Height and width that a latent frame is pooled to.
        convolutions: Channels of 3x3 convolutions over the grid.
        coarse: As the captioner's.
        hidden_size: Width of features and of the states of both directions together; even.
        embed_size: Width of a word's embedding.
        output_size: Width of the space that clips and captions share.
        dropout: Share of a frame's features that is dropped.
        max_words: Words of the vocabulary at most, the most frequent ones of the training's captions.
    """

    grid: tuple[int, int] = _within((8, 12), least=1, most=256)
    convolutions: tuple[int, ...] = _within((), least=1, most=4096)
    coarse: tuple[int, ...] = _within((), least=1, most=256)
    hidden_size: int = _within(256, least=2, most=8192)
    embed_size: int = _within(256, least=1, most=8192)
    output_size: int = _within(128, least=1, most=8192)
    dropout: float = _within(0.1, least=0, most=0.99)
    max_words: int = _within(2000, least=1, most=100_000)


@dataclass(frozen=True, kw_only=True)
class ValidationOptions:
    """The held-out loss, at noise that never changes.

    Attributes:
        clips: How many held-out clips, at most.
        timesteps: Diffusion times, one bin of the curves each.
    """

    clips: int = _within(16, least=1)
    timesteps: tuple[int, ...] = _within((100, 300, 500, 700, 900), least=0, most=999)


@dataclass(frozen=True, kw_only=True)
class PreviewOptions:
    """Sample clips made during training with the running mean of the weights.

    Attributes:
        prompts: One clip each.
        images: First frames (image-to-video), one a prompt; paths are relative to the working folder.
        steps: Denoising steps; 0: the model's own.
        guidance_scale: 0: the model's own.
    """

    prompts: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    steps: int = _within(0, least=0, most=1000)
    guidance_scale: float = _within(0.0, least=0)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a progressive run; it starts from the weights of the one before.

    Attributes:
        name: For logs.
        steps: Optimizer steps.
        sizes: Heights and widths in pixels; a clip takes the one with the nearest aspect.
        max_frames: Frames of a clip, 8k + 1: at most (transformer) or exactly (VAE).
        images: Share of clips of which one frame is taken, as an image.
        tokens: Budget of a pack in tokens, text included (transformer); 0: those of the longest clip.
        packs: Packs a step, over all ranks (transformer, captioner, dual encoder).
        batch_size: Clips a step, over all ranks and micro batches (VAE), or over all packs (captioner, dual encoder).
        fps: Drawn from these for each clip; empty: data.fps.
        lr: Peak learning rate; 0: optim.lr.
        crop: Height and width in pixels of a random window of each clip that is trained on instead of the whole frame
            (VAE); empty: the whole frame.
        min_scores: In place of data.min_scores where given.
        where: In place of data.where where given.
    """

    name: str = ""
    steps: int = _within(1, least=1)
    sizes: tuple[tuple[int, int], ...] = _within(((480, 720),), least=8, most=16384)
    max_frames: int = _within(49, least=1, most=100_001)
    images: float = _within(0.0, least=0, most=1)
    tokens: int = _within(0, least=0)
    packs: int = _within(1, least=1)
    batch_size: int = _within(1, least=1)
    fps: tuple[float, ...] = _within((), above=0, most=1000)
    lr: float = _within(0.0, least=0, most=10)
    crop: tuple[int, ...] = _within((), least=8, most=16384)
    min_scores: Mapping[str, float] = field(default_factory=dict)
    where: str = ""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole training run; every field has its table in the TOML file.

    Attributes:
        kind: What is trained: "lora" is text- or image-to-video as the base model is.
        seed: Of everything that is drawn.
        stages: In order.
    """

    kind: Kind
    seed: int = _within(0, least=0, most=2**63 - 1)
    model: ModelOptions = field(default_factory=ModelOptions)
    data: DataOptions = field(default_factory=DataOptions)
    optim: OptimOptions = field(default_factory=OptimOptions)
    run: RunOptions = field(default_factory=RunOptions)
    diffusion: DiffusionOptions = field(default_factory=DiffusionOptions)
    vae: VAEOptions = field(default_factory=VAEOptions)
    lora: LoRAOptions = field(default_factory=LoRAOptions)
    captioner: CaptionerOptions = field(default_factory=CaptionerOptions)
    dual_encoder: DualEncoderOptions = field(default_factory=DualEncoderOptions)
    validation: ValidationOptions = field(default_factory=ValidationOptions)
    preview: PreviewOptions = field(default_factory=PreviewOptions)
    stages: tuple[Stage, ...] = ()

    @property
    def num_steps(self) -> int:
        """Optimizer steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[int, int]:
        """Return the number of the stage that a step of the run belongs to, and the step's place in that stage."""
        place = step
        for index, stage in enumerate(self.stages):
            if place < stage.steps:
                return index, place
            place -= stage.steps
        raise UsageError(f"step {step} is past the last stage, which ends after {self.num_steps} steps")
