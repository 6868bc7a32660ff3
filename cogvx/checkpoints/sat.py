"""Names of the official SAT code and of diffusers, in both directions.

The two layouts hold the same numbers under other names, except for three things: SAT keeps the projections of query,
key and value in one matrix, the modulations of both norms of a block in another, and counts the decoder's levels from
the highest resolution. One difference is not in the weights: SAT's last norm has an epsilon of 1e-6, diffusers' has
1e-5. cogvx computes with 1e-5, so a model from SAT gives what diffusers gives from its official conversion.

Source: zai-org/CogVideo, sat/dit_video_concat.py and sat/vae_modules/cp_enc_dec.py.
"""

import re
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cogvx.checkpoints.weights import StoredTensor, Weights, first_few
from cogvx.errors import InputError
from cogvx.models.sincos import sincos_table
from cogvx.models.transformer.config import TransformerConfig

PREFIX = "model.diffusion_model."
POSITIONS = "mixins.pos_embed.pos_embedding"
_POSITIONS_HERE = "patch_embed.pos_embedding"

# SAT module -> our module (the diffusers name); * is the number of a block.
_TRANSFORMER = {
    "transformer.layers.*.attention.dense": "transformer_blocks.*.attn1.to_out.0",
    "transformer.layers.*.mlp.dense_h_to_4h": "transformer_blocks.*.ff.net.0.proj",
    "transformer.layers.*.mlp.dense_4h_to_h": "transformer_blocks.*.ff.net.2",
    "transformer.layers.*.input_layernorm": "transformer_blocks.*.norm1.norm",
    "transformer.layers.*.post_attention_layernorm": "transformer_blocks.*.norm2.norm",
    "mixins.adaln_layer.query_layernorm_list.*": "transformer_blocks.*.attn1.norm_q",
    "mixins.adaln_layer.key_layernorm_list.*": "transformer_blocks.*.attn1.norm_k",
    "mixins.patch_embed.proj": "patch_embed.proj",
    "mixins.patch_embed.text_proj": "patch_embed.text_proj",
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "ofs_embed.0": "ofs_embedding.linear_1",
    "ofs_embed.2": "ofs_embedding.linear_2",
    "transformer.final_layernorm": "norm_final",
    "mixins.final_layer.norm_final": "norm_out.norm",
    "mixins.final_layer.adaLN_modulation.1": "norm_out.linear",
    "mixins.final_layer.linear": "proj_out",
}
# One SAT matrix -> several of ours, joined along the first axis.
_QKV = "transformer.layers.*.attention.query_key_value"
_TO_QKV = tuple(f"transformer_blocks.*.attn1.to_{letter}" for letter in "qkv")
_ADALN = "mixins.adaln_layer.adaLN_modulations.*.1"
_TO_ADALN = ("transformer_blocks.*.norm1.linear", "transformer_blocks.*.norm2.linear")
# Of the twelve parts of a modulation (shift, scale, gate for attention and feed-forward, of video then of text).
_ADALN_PARTS = ((0, 1, 2, 6, 7, 8), (3, 4, 5, 9, 10, 11))

_DROPPED = re.compile(r"transformer\.(word|position)_embeddings|mixins\.pos_embed\.freqs_(sin|cos)$")
_OTHER_PARTS = (
    "first_stage_model.",
    "conditioner.",
    "model_ema.",
    "loss.",
)  # a fully fine-tuned file has VAE and T5 too
_HERE = {ours: sat for sat, ours in _TRANSFORMER.items()}

_VAE = (
    (r"\.mid\.block_([12])\.", lambda m, levels: f".mid_block.resnets.{int(m[1]) - 1}."),
    (r"\.down\.(\d+)\.block\.", lambda m, levels: f".down_blocks.{m[1]}.resnets."),
    (r"\.down\.(\d+)\.downsample\.", lambda m, levels: f".down_blocks.{m[1]}.downsamplers.0."),
    (r"\.up\.(\d+)\.block\.", lambda m, levels: f".up_blocks.{levels - 1 - int(m[1])}.resnets."),
    (r"\.up\.(\d+)\.upsample\.", lambda m, levels: f".up_blocks.{levels - 1 - int(m[1])}.upsamplers.0."),
    (r"\.nin_shortcut\.", lambda m, levels: ".conv_shortcut."),
)
_VAE_BACK = (
    (r"\.mid_block\.resnets\.([01])\.", lambda m, levels: f".mid.block_{int(m[1]) + 1}."),
    (r"\.down_blocks\.(\d+)\.resnets\.", lambda m, levels: f".down.{m[1]}.block."),
    (r"\.down_blocks\.(\d+)\.downsamplers\.0\.", lambda m, levels: f".down.{m[1]}.downsample."),
    (r"\.up_blocks\.(\d+)\.resnets\.", lambda m, levels: f".up.{levels - 1 - int(m[1])}.block."),
    (r"\.up_blocks\.(\d+)\.upsamplers\.0\.", lambda m, levels: f".up.{levels - 1 - int(m[1])}.upsample."),
    (r"\.conv_shortcut\.", lambda m, levels: ".nin_shortcut."),
)


def transformer_from_sat(weights: Weights, *, learned_positions: bool | None = None) -> dict[str, StoredTensor]:
    """Return the weights of a SAT transformer under our names; nothing is read except the table of positions.

    Embeddings of words, rotary tables, and the parts of a fully fine-tuned file that are no transformer are left out. A
    table of added positions is kept if it was learned, and left out if it is the fixed one, which cogvx computes.

    Args:
        weights: Under SAT's names.
        learned_positions: Whether a table was learned (default: it was unless its numbers are those of the fixed one).

    Raises:
        InputError: A name is not known, or a matrix cannot be cut.
    """
    made: dict[str, StoredTensor] = {}
    unknown = []
    for name, stored in weights.items():
        key = name.removeprefix(PREFIX)
        if key.startswith(_OTHER_PARTS) or _DROPPED.match(key):
            continue
        module, _, leaf = key.rpartition(".")
        pattern, number = _split(module)
        if key == POSITIONS:
            if not is_fixed_table(stored) if learned_positions is None else learned_positions:
                made[_POSITIONS_HERE] = stored
        elif pattern in _TRANSFORMER:
            made[f"{_TRANSFORMER[pattern].replace('*', number)}.{leaf}"] = stored
        elif pattern == _QKV:
            for i, target in enumerate(_TO_QKV):
                made[f"{target.replace('*', number)}.{leaf}"] = _part(stored, name, 3, (i,))
        elif pattern == _ADALN:
            for target, parts in zip(_TO_ADALN, _ADALN_PARTS, strict=True):
                made[f"{target.replace('*', number)}.{leaf}"] = _part(stored, name, 12, parts)
        else:
            unknown.append(name)
    if unknown:
        if any("matrix_A" in name for name in unknown):
            raise InputError("these SAT weights have a LoRA in them; convert the file on its own: it gives the LoRA")
        raise InputError(f"{len(unknown)} names are not of a SAT transformer: {first_few(unknown)}")
    return made


def transformer_to_sat(weights: Weights, config: TransformerConfig) -> dict[str, StoredTensor]:
    """Return the weights of a transformer under SAT's names, with the prefix that its loader wants.

    For a form with fixed added positions (2B) the table is computed and added: SAT has it in its files.

    Raises:
        InputError: A name is not known, or one of the matrices that SAT joins is missing.
    """
    made: dict[str, StoredTensor] = {}
    unknown = []
    for name, stored in weights.items():
        module, _, leaf = name.rpartition(".")
        pattern, number = _split(module)
        if name == _POSITIONS_HERE:
            made[POSITIONS] = stored
        elif pattern in _HERE:
            made[f"{_HERE[pattern].replace('*', number)}.{leaf}"] = stored
        elif pattern in _TO_QKV:
            if pattern == _TO_QKV[0]:
                made[f"{_QKV.replace('*', number)}.{leaf}"] = _join(weights, _TO_QKV, number, leaf, ((0,), (1,), (2,)))
        elif pattern in _TO_ADALN:
            if pattern == _TO_ADALN[0]:
                made[f"{_ADALN.replace('*', number)}.{leaf}"] = _join(weights, _TO_ADALN, number, leaf, _ADALN_PARTS)
        else:
            unknown.append(name)
    if unknown:
        raise InputError(f"{len(unknown)} names are not of a CogVideoX transformer: {first_few(unknown)}")
    if not config.rotary and POSITIONS not in made and weights:
        made[POSITIONS] = _fixed_table(config, next(iter(weights.values())).dtype)
    return {PREFIX + key: stored for key, stored in made.items()}


def vae_from_sat(weights: Weights) -> dict[str, StoredTensor]:
    """Return the weights of a SAT VAE under our names; those of its loss are left out."""
    kept = {name.removeprefix("first_stage_model."): stored for name, stored in weights.items()}
    kept = {name: stored for name, stored in kept.items() if name.startswith(("encoder.", "decoder."))}
    if not kept:
        raise InputError(f"no VAE in these weights: {first_few(weights)}")
    levels = 1 + max((int(m[1]) for name in kept if (m := re.search(r"\.up\.(\d+)\.", name))), default=-1)
    return {_rename(name, _VAE, levels): stored for name, stored in kept.items()}


def vae_to_sat(weights: Weights) -> dict[str, StoredTensor]:
    """Return the weights of a VAE under SAT's names."""
    levels = 1 + max((int(m[1]) for name in weights if (m := re.search(r"\.up_blocks\.(\d+)\.", name))), default=-1)
    return {_rename(name, _VAE_BACK, levels): stored for name, stored in weights.items()}


def is_sat_transformer(names: Mapping[str, object]) -> bool:
    """Tell whether these are the names of a SAT transformer."""
    return any(name.removeprefix(PREFIX).startswith(("transformer.layers.", "mixins.")) for name in names)


def is_sat_vae(names: Mapping[str, object]) -> bool:
    """Tell whether these are the names of a SAT VAE."""
    return any(re.match(r"(encoder|decoder)\.(down|up|mid)\.", name) for name in names)


def is_fixed_table(stored: StoredTensor) -> bool:
    """Tell whether a table of added positions (1 l d) is the fixed one and not learned.

    The fixed one has zeros for the text, and then a first position whose sines are 0 and whose cosines are 1.
    """
    return fixed_text_length(stored) is not None


def fixed_text_length(stored: StoredTensor) -> int | None:
    """Return how many text tokens a fixed table of positions has, None for a learned one."""
    table = stored.read()[0]
    rows = table.abs().amax(dim=-1).nonzero()
    if not len(rows):
        return None
    first = table[int(rows[0])].float()
    fixed = bool(((first == 0) | (first == 1)).all()) and int((first == 1).sum()) * 2 == len(first)
    return int(rows[0]) if fixed else None


def _split(module: str) -> tuple[str, str]:
    """Return a module's name with the number of its block replaced by *, and that number."""
    match = re.match(
        r"(transformer\.layers|transformer_blocks|mixins\.adaln_layer\.(?:adaLN_modulations|query_layernorm_list|key_layernorm_list))"
        r"\.(\d+)(?=\.|$)",
        module,
    )
    if not match:
        return module, ""
    return f"{match[1]}.*{module[match.end() :]}", match[2]


def _part(stored: StoredTensor, name: str, count: int, parts: Sequence[int]) -> StoredTensor:
    """Return some of the equal parts that a tensor has along its first axis, joined."""
    if not stored.shape or stored.shape[0] % count:
        raise InputError(f"{name}: shape {stored.shape} cannot be cut into {count} parts")

    def read() -> Tensor:
        chunks = stored.read().chunk(count, dim=0)
        return torch.cat([chunks[i] for i in parts])

    return StoredTensor((stored.shape[0] // count * len(parts), *stored.shape[1:]), stored.dtype, read)


def _join(
    weights: Weights, names: Sequence[str], number: str, leaf: str, parts: Sequence[Sequence[int]]
) -> StoredTensor:
    """Undo _part: put the parts of several tensors where SAT has them."""
    keys = [f"{name.replace('*', number)}.{leaf}" for name in names]
    missing = [key for key in keys if key not in weights]
    if missing:
        raise InputError(f"SAT joins these tensors, and some are missing: {first_few(missing)}")
    sources = [weights[key] for key in keys]
    order = [part for each in parts for part in each]

    def read() -> Tensor:
        chunks = [
            chunk
            for source, each in zip(sources, parts, strict=True)
            for chunk in source.read().chunk(len(each), dim=0)
        ]
        return torch.cat([chunks[order.index(i)] for i in range(len(order))])

    shape = (sum(source.shape[0] for source in sources), *sources[0].shape[1:])
    return StoredTensor(shape, sources[0].dtype, read)


def _fixed_table(config: TransformerConfig, dtype: torch.dtype) -> StoredTensor:
    frames = (config.sample_frames - 1) // config.temporal_compression_ratio + 1
    grid = frames, config.sample_height // config.patch_size, config.sample_width // config.patch_size
    length = config.max_text_length + grid[0] * grid[1] * grid[2]

    def read() -> Tensor:
        table = sincos_table(
            config.hidden_size, grid, spatial_scale=config.spatial_scale, temporal_scale=config.temporal_scale
        )
        return F.pad(table, (0, 0, config.max_text_length, 0))[None].to(dtype)

    return StoredTensor((1, length, config.hidden_size), dtype, read)


def _rename(name: str, rules: Sequence[tuple[str, Callable[[re.Match[str], int], str]]], levels: int) -> str:
    for pattern, replace in rules:
        name = re.sub(pattern, lambda match, replace=replace: replace(match, levels), name)  # type: ignore[misc]
    return name
