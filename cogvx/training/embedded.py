"""Makes the models that ship inside the package, from nothing, on Storyboard alone.

`python -m cogvx.training.embedded STAGE --run FOLDER`; the stages, in order: pool, vae, encode, dit, refine, i2v,
export. Each reads what the ones before wrote and goes on where it was stopped.
"""

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import torch
from einops import rearrange
from safetensors.torch import load_file
from torch import Tensor
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from cogvx.checkpoints.saving import save_component
from cogvx.data.storyboard import StoryboardOptions, rng_of, sample_spec
from cogvx.diffusion.schedule import Schedule
from cogvx.files import save_safetensors, write_text
from cogvx.models.text_encoder import TextEncoder
from cogvx.models.transformer import ExpertTransformer, TransformerConfig
from cogvx.models.vae import CausalVAE, VAEConfig
from cogvx.training.dit import DiTRecipe, Encoded, train_dit
from cogvx.training.frame_convs import use_frame_convs
from cogvx.training.pool import Pool, make_pool
from cogvx.training.start import init_transformer, widen_input
from cogvx.training.vae import VAERecipe, reconstruction_psnr, train_vae


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What the embedded models are, and how long they train."""

    height: int = 64
    width: int = 96
    num_frames: int = 17
    fps: int = 8
    clips: int = 9000
    vae_steps: int = 2700
    dit_steps: int = 2900
    refine_steps: int = 3800
    i2v_steps: int = 450
    batch_size: int = 32
    max_text_length: int = 56
    vocabulary: int = 600


def vae_config(sizes: Sizes, scaling_factor: float) -> VAEConfig:
    """Return the embedded VAE's sizes."""
    return VAEConfig(
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=1,
        norm_num_groups=4,
        sample_height=sizes.height,
        sample_width=sizes.width,
        scaling_factor=scaling_factor,
    )


def transformer_config(sizes: Sizes, *, image: bool) -> TransformerConfig:
    """Return the embedded transformer's sizes, with or without the image's channels."""
    return TransformerConfig(
        num_layers=8,
        num_heads=4,
        in_channels=32 if image else 16,
        text_size=192,
        time_size=64,
        max_text_length=sizes.max_text_length,
        sample_height=sizes.height // 8,
        sample_width=sizes.width // 8,
        sample_frames=sizes.num_frames,
        rotary=True,
    )


def text_config(vocabulary: int) -> T5Config:
    """Return the embedded text encoder's sizes."""
    return T5Config(
        vocab_size=vocabulary,
        d_model=192,
        d_kv=48,
        num_heads=4,
        d_ff=384,
        num_layers=2,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        is_encoder_decoder=False,
        use_cache=False,
    )


class Run:
    """One run folder: its stages and what they leave."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.folder, self.sizes = folder, sizes
        folder.mkdir(parents=True, exist_ok=True)

    def pool(self) -> Pool:
        """Render the training clips."""
        sizes = self.sizes
        return make_pool(
            self.folder / "pool",
            count=sizes.clips,
            seed=0,
            num_frames=sizes.num_frames,
            height=sizes.height,
            width=sizes.width,
            options=StoryboardOptions(),
        )

    def vae(self) -> None:
        """Train the VAE."""
        vae = self._new_vae(1.0)
        clips = self.pool().clips
        plan = ((0.45, 1, 16), (0.85, 9, 4), (1.0, 17, 2))
        recipe = VAERecipe(num_steps=self.sizes.vae_steps, plan=plan, lr=3e-3)
        train_vae(vae, clips[:-64], recipe, state=self.folder / "vae.state.safetensors", log=self._log("vae"))
        self._log("vae")({"psnr": reconstruction_psnr(vae, clips[-64:])})

    def encode(self) -> None:
        """Train the tokenizer, and encode clips and captions."""
        pool = self.pool()
        vae = self._trained_vae(1.0)
        texts = [text for texts in pool.texts for text in texts.values()]
        tokenizer = train_tokenizer(texts, self.folder / "tokenizer", self.sizes)
        latents, images = [], []
        for start in range(0, len(pool.clips), 8):
            video = rearrange(torch.from_numpy(np.array(pool.clips[start : start + 8])), "b t h w c -> b c t h w")
            video = video.float() / 127.5 - 1
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
                latents.append(vae.encode(video).mean.half())
                images.append(vae.encode(video[:, :, :1]).mean[:, :, 0].half())
        factor = 1 / float(torch.cat(latents[:64]).float().std())
        tensors = {
            "latents": (torch.cat(latents).float() * factor).half(),
            "images": (torch.cat(images).float() * factor).half(),
            **{kind: self._ids(tokenizer, [text[kind] for text in pool.texts]) for kind in ("short", "dense")},
            "empty": self._ids(tokenizer, [""])[0],
        }
        save_safetensors(tensors, self.folder / "encoded.safetensors", {"scaling_factor": repr(factor)})
        write_text(self.folder / "scaling_factor.json", json.dumps(factor))

    def dit(self) -> None:
        """Train the transformer together with its text encoder."""
        torch.manual_seed(0)
        transformer, text_encoder = self._new_transformer(image=False), self._new_text_encoder()
        init_transformer(transformer, generator=torch.Generator().manual_seed(0))
        recipe = DiTRecipe(num_steps=self.sizes.dit_steps, batch_size=self.sizes.batch_size)
        self._train("dit", transformer, text_encoder, recipe, train_text=True)

    def refine(self) -> None:
        """Train on, mostly on plain clips and at much noise, where only the caption says what moves where."""
        transformer, text_encoder = self._trained("dit", image=False)
        recipe = DiTRecipe(
            num_steps=self.sizes.refine_steps,
            batch_size=self.sizes.batch_size,
            lr=2e-3,
            adam_lr=0.5,
            text_lr=0.5,
            ema_decay=0.998,
            dense_share=0.2,
            time_power=0.7,
            favoured_share=0.75,
        )
        self._train("refine", transformer, text_encoder, recipe, train_text=True)

    def i2v(self) -> None:
        """Fine-tune the image-to-video transformer; its new input channels start at zero."""
        transformer, text_encoder = self._trained("refine", image=True)
        recipe = DiTRecipe(
            num_steps=self.sizes.i2v_steps, batch_size=self.sizes.batch_size, lr=2e-3, ema_decay=0.998, seed=1
        )
        self._train("i2v", transformer, text_encoder, recipe, train_text=False)

    def export(self) -> None:
        """Write tiny and tiny-i2v in the diffusers layout under `model/`."""
        factor = json.loads((self.folder / "scaling_factor.json").read_text())
        target = self.folder / "model"
        shutil.rmtree(target, ignore_errors=True)
        weights = self._mean_weights("refine")
        tiny = target / "tiny"
        vae = self._trained_vae(factor)
        save_component(_bf16(vae.state_dict()), vae.config.to_dict(), tiny / "vae")
        text = self._new_text_encoder()
        # The dtype that transformers computes in unless told otherwise; the stored weights are bfloat16.
        config = {**text_config(len(text.tokenizer)).to_dict(), "architectures": ["T5EncoderModel"], "dtype": "float32"}
        shared = {key: value for key, value in weights["text_encoder"].items() if key != "encoder.embed_tokens.weight"}
        save_component(_bf16(shared), config, tiny / "text_encoder", stem="model")
        shutil.copytree(self.folder / "tokenizer", tiny / "tokenizer")
        for name, stage in (("tiny", "refine"), ("tiny-i2v", "i2v")):
            if not (self.folder / f"{stage}.state.safetensors").exists():
                continue
            config = transformer_config(self.sizes, image=stage == "i2v").to_dict()
            save_component(_bf16(self._mean_weights(stage)["transformer"]), config, target / name / "transformer")
            scheduler = target / name / "scheduler"
            scheduler.mkdir(parents=True)
            write_text(scheduler / "scheduler_config.json", json.dumps(Schedule().config, indent=2) + "\n")
            write_text(target / name / "model_index.json", json.dumps(self._index(stage), indent=2) + "\n")

    def _index(self, stage: str) -> dict[str, Any]:
        sizes = self.sizes
        return {
            "_class_name": "CogVideoXPipeline" if stage == "refine" else "CogVideoXImageToVideoPipeline",
            "_cogvx": {
                "height": sizes.height,
                "width": sizes.width,
                "num_frames": sizes.num_frames,
                "fps": sizes.fps,
                "num_steps": 25,
                "guidance_scale": 4.0,
                "scheduler": "ddim",
                "dynamic_guidance": "off",
            },
            "scheduler": ["diffusers", "CogVideoXDDIMScheduler"],
            "text_encoder": ["transformers", "T5EncoderModel"],
            "tokenizer": ["transformers", "T5Tokenizer"],
            "transformer": ["diffusers", "CogVideoXTransformer3DModel"],
            "vae": ["diffusers", "AutoencoderKLCogVideoX"],
        }

    def _train(
        self, stage: str, transformer: ExpertTransformer, text: TextEncoder, recipe: DiTRecipe, *, train_text: bool
    ) -> None:
        # A short sequence on a CPU: plain attention, fused by the compiler, is several times faster backwards.
        transformer.attention_backend = "reference"
        for block in transformer.transformer_blocks:
            block.compile(dynamic=False)
        tensors = load_file(self.folder / "encoded.safetensors")
        images = tensors["images"] if stage == "i2v" else None
        favoured = self._plain_clips() if recipe.favoured_share else None
        data = Encoded(tensors["latents"], tensors["short"], tensors["dense"], tensors["empty"], images, favoured)
        state = self.folder / f"{stage}.state.safetensors"
        train_dit(transformer, text, Schedule(), data, recipe, train_text=train_text, state=state, log=self._log(stage))

    def _new_vae(self, factor: float) -> CausalVAE:
        torch.manual_seed(0)
        vae = CausalVAE(vae_config(self.sizes, factor))
        use_frame_convs(vae)
        return vae

    def _trained_vae(self, factor: float) -> CausalVAE:
        vae = self._new_vae(factor)
        tensors = load_file(self.folder / "vae.state.safetensors")
        vae.load_state_dict(_below(tensors, "module.vae."))
        return vae

    def _new_transformer(self, *, image: bool) -> ExpertTransformer:
        return ExpertTransformer(transformer_config(self.sizes, image=image))

    def _new_text_encoder(self) -> TextEncoder:
        tokenizer = T5Tokenizer.from_pretrained(self.folder / "tokenizer")
        return TextEncoder(tokenizer, T5EncoderModel(text_config(len(tokenizer))), self.sizes.max_text_length)

    def _trained(self, stage: str, *, image: bool) -> tuple[ExpertTransformer, TextEncoder]:
        """Return the networks that a stage left, the transformer with channels for an image where they are wanted."""
        transformer, text_encoder = self._new_transformer(image=image), self._new_text_encoder()
        weights = self._mean_weights(stage)
        tied = {"encoder.embed_tokens.weight": weights["text_encoder"]["shared.weight"]}
        text_encoder.encoder.load_state_dict(weights["text_encoder"] | tied)
        narrow = weights["transformer"]
        transformer.load_state_dict(widen_input(narrow, transformer) if image else narrow)
        return transformer, text_encoder

    def _plain_clips(self) -> Tensor:
        """Return the numbers of the clips of one flat object before a camera that stands still."""
        specs = (sample_spec(rng_of(0, i), StoryboardOptions()) for i in range(self.sizes.clips))
        plain = [
            i for i, spec in enumerate(specs) if (len(spec.objects), spec.camera, spec.style) == (1, "still", "flat")
        ]
        return torch.tensor(plain)

    def _mean_weights(self, stage: str) -> dict[str, dict[str, Tensor]]:
        """Return the running means of a stage's parts: part to names to tensors."""
        tensors = load_file(self.folder / f"{stage}.state.safetensors")
        return {part: _below(tensors, f"ema.{part}.") for part in ("transformer", "text_encoder")}

    def _ids(self, tokenizer: T5Tokenizer, texts: list[str]) -> Tensor:
        batch = tokenizer(texts, padding="max_length", truncation=True, max_length=self.sizes.max_text_length)
        return torch.tensor(batch.input_ids)

    def _log(self, stage: str) -> Any:
        def write(record: dict[str, float]) -> None:
            with (self.folder / "metrics.jsonl").open("a") as file:
                file.write(
                    json.dumps({"stage": stage, **{key: round(value, 5) for key, value in record.items()}}) + "\n"
                )

        return write


def train_tokenizer(texts: list[str], folder: Path, sizes: Sizes) -> T5Tokenizer:
    """Train a SentencePiece tokenizer that ignores case on captions, and write it in the layout of T5's."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(texts), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(folder / "spiece"),
        vocab_size=sizes.vocabulary,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc_cf",
        required_chars="abcdefghijklmnopqrstuvwxyz0123456789.,'-!?",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    corpus.unlink()
    (folder / "spiece.vocab").unlink()
    tokenizer = T5Tokenizer.from_pretrained(folder, extra_ids=0, model_max_length=sizes.max_text_length)
    tokenizer.save_pretrained(folder)
    return T5Tokenizer.from_pretrained(folder)


def _bf16(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.to(torch.bfloat16).contiguous() for key, value in weights.items()}


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=["pool", "vae", "encode", "dit", "refine", "i2v", "export"])
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    for field, value in vars(Sizes()).items():
        parser.add_argument(f"--{field.replace('_', '-')}", type=int, default=value)
    options = vars(parser.parse_args())
    stage, folder = options.pop("stage"), options.pop("run")
    getattr(Run(folder, Sizes(**options)), stage)()


if __name__ == "__main__":
    main()
