"""The tables of a report: which numbers stand together, what they are called, and which way is better."""

from dataclasses import dataclass, field
from typing import Literal

Better = Literal["higher", "lower", ""]
_ARROWS = {"higher": "\u00a0↑", "lower": "\u00a0↓", "": ""}


@dataclass(frozen=True)
class Column:
    """One kind of number.

    Attributes:
        key: Its name in results; behind an "@" that of a substitute.
        title: For people.
        better: Which way; "" where neither is, so that nothing can be ranked by it.
        digits: After the point.
        scale: What it is multiplied by when it is shown.
    """

    key: str
    title: str
    better: Better = ""
    digits: int = 3
    scale: float = 1.0

    @property
    def heading(self) -> str:
        """The title with an arrow."""
        return self.title + _ARROWS[self.better]

    def shown(self, value: float) -> str:
        """Return a number as it is shown; very small and large ones with an exponent."""
        value *= self.scale
        if value and not 10 ** -(self.digits + 1) <= abs(value) < 1e7:
            return f"{value:.3g}"
        return f"{value:.{self.digits}f}"


@dataclass(frozen=True)
class Family:
    """One table.

    Attributes:
        key: Its name here.
        title: For people.
        about: One or two sentences about the numbers.
        columns: Those that are known; others come behind them.
        papers: The paper's tables that are shown beside it, by their names in paper.json.
    """

    key: str
    title: str
    about: str
    columns: tuple[Column, ...] = ()
    papers: tuple[str, ...] = ()
    by_key: dict[str, Column] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_key", {one.key: one for one in self.columns})

    def column(self, key: str) -> Column:
        """Return a column; that of a substitute is like the original's, but is called otherwise."""
        if key in self.by_key:
            return self.by_key[key]
        base, at, network = key.partition("@")
        if at and base in self.by_key:
            known = self.by_key[base]
            return Column(key, f"{known.title} @{network}", known.better, known.digits, known.scale)
        return Column(key, key)

    def order(self, key: str) -> tuple[int, str]:
        """Return what columns are sorted by: the known ones first, each before its substitutes."""
        keys = list(self.by_key)
        base = key.partition("@")[0]
        place = keys.index(key) if key in self.by_key else keys.index(base) if base in self.by_key else len(keys)
        return place, key


def _hundred(key: str, title: str, better: Better = "higher") -> Column:
    return Column(key, title, better, digits=2, scale=100.0)


_FAMILIES = (
    Family(
        "generation",
        "Text to video",
        "VBench's dimensions as raw scores x 100, as the paper has them; Dynamic Quality x 100; MTScore from 1 to 5. "
        "A name with @ is that of a substitute, which is not comparable with the original.",
        (
            _hundred("human_action", "Human Action"),
            _hundred("scene", "Scene"),
            _hundred("dynamic_degree", "Dynamic Degree"),
            _hundred("multiple_objects", "Multiple Objects"),
            _hundred("appearance_style", "Appearance Style"),
            _hundred("dynamics_quality", "Dynamic Quality"),
            Column("GPT4o-MTScore", "GPT4o-MTScore", "higher", 2),
            Column("mtscore", "MTScore", "higher", 2),
            _hundred("subject_consistency", "Subject Consistency"),
            _hundred("background_consistency", "Background Consistency"),
            _hundred("temporal_flickering", "Temporal Flickering"),
            _hundred("motion_smoothness", "Motion Smoothness"),
            _hundred("aesthetic_quality", "Aesthetic Quality"),
            _hundred("imaging_quality", "Imaging Quality"),
            _hundred("object_class", "Object Class"),
            _hundred("color", "Color"),
            _hundred("spatial_relationship", "Spatial Relationship"),
            _hundred("temporal_style", "Temporal Style"),
            _hundred("overall_consistency", "Overall Consistency"),
        ),
        ("generation",),
    ),
    Family(
        "vbench_total",
        "VBench totals",
        "Each dimension between the worst and best that VBench's authors saw, weighted as they do, x 100.",
        (_hundred("quality", "Quality"), _hundred("semantic", "Semantic"), _hundred("total", "Total")),
    ),
    Family(
        "dynamics",
        "Dynamics",
        "How much happens in clips: 0 is a still picture. More is neither better nor worse; the range and how well "
        "prompts control it are.",
        (
            Column("mean", "Mean"),
            Column("range", "Range", "higher"),
            Column("controllability", "Controllability", "higher"),
        ),
    ),
    Family(
        "fvd",
        "Distance to real clips",
        "Fréchet and kernel distances of features. Below each number stands what half of a set is from its other "
        "half: a number that is no larger tells nothing.",
        (
            Column("fvd", "FVD", "lower", 2),
            Column("fvd-lite", "FVD-lite", "lower", 2),
            Column("kvd", "KVD", "lower", 4),
            Column("kvd-lite", "KVD-lite", "lower", 4),
        ),
    ),
    Family(
        "text",
        "Clips and their texts",
        "Mean cosine of clips and their texts, and how often one finds the other among all.",
        (
            Column("clip4clip_meanp", "CLIP4Clip meanP", "higher", 4),
            Column("clip_meanp", "CLIP meanP", "higher", 4),
            Column("conse", "ConSE", "higher", 4),
            Column("text_match", "Text match", "higher", 4),
            Column("text_to_video.recall_1", "text to clip R@1", "higher"),
            Column("text_to_video.recall_5", "text to clip R@5", "higher"),
            Column("text_to_video.median_rank", "text to clip median rank", "lower", 1),
            Column("video_to_text.recall_1", "clip to text R@1", "higher"),
            Column("video_to_text.recall_5", "clip to text R@5", "higher"),
            Column("video_to_text.median_rank", "clip to text median rank", "lower", 1),
        ),
    ),
    Family(
        "reconstruction",
        "VAE reconstruction",
        "Clips through the encoder and decoder, beside the originals. Flicker is in grey levels of 255; the paper's "
        "flickering has no stated unit, and the two readings are what it may mean, and no more.",
        (
            Column("psnr", "PSNR (dB)", "higher", 2),
            Column("psnr_global", "PSNR, whole clip (dB)", "higher", 2),
            Column("ssim", "SSIM", "higher", 4),
            Column("ms_ssim", "MS-SSIM", "higher", 4),
            Column("st_lpips", "ST-LPIPS", "lower", 4),
            Column("lpips", "LPIPS", "lower", 4),
            Column("vmaf", "VMAF", "higher", 2),
            Column("flicker", "Flicker", "", 2),
            Column("flicker_source", "Flicker of originals", "", 2),
            Column("flicker_excess", "Flicker excess", "lower", 2),
            Column("flicker_ratio", "Flicker ratio (1 is right)", "", 3),
            Column("flicker_reading_x1000", "Reading: x 1000 on [-1, 1]", "", 1),
            Column("flicker_reading_wrapped", "Reading: wrapped uint8", "", 1),
        ),
        ("vae", "vae_variants"),
    ),
    Family(
        "human",
        "Human evaluation",
        "Means over all votes; in brackets, the 95 % interval over prompts.",
        (
            Column("sensory_quality", "Sensory Quality", "higher"),
            Column("instruction_following", "Instruction Following", "higher"),
            Column("physics_simulation", "Physics Simulation", "higher"),
            Column("cover_quality", "Cover Quality", "higher"),
            Column("total", "Total Score", "higher", 2),
        ),
        ("human",),
    ),
    Family(
        "human_ranking",
        "Human preference",
        "Bradley and Terry's ratings (400 points are odds of 10 to 1) and win rates, with 95 % intervals.",
        (Column("rating", "Rating", "higher", 0), Column("win_rate", "Win rate", "higher")),
    ),
    Family(
        "storyboard",
        "Storyboard, the synthetic world",
        "Share of what was asked for that the clips show, x 100.",
        (
            _hundred("value", "Mean share"),
            _hundred("exact", "All of a clip"),
            _hundred("objects", "Objects and colours"),
            _hundred("attributes.scene", "Scene"),
            _hundred("attributes.style", "Style"),
            _hundred("attributes.camera", "Camera"),
            _hundred("attributes.count", "Count"),
            _hundred("attributes.object", "Object"),
            _hundred("attributes.colour", "Colour"),
            _hundred("attributes.size", "Size"),
            _hundred("attributes.action", "Action"),
        ),
    ),
    Family(
        "held_out",
        "Held-out loss",
        "The last held-out loss of each run, at five diffusion times. Runs compare if the same clips were held out.",
        tuple(Column(str(t), f"t = {t}") for t in (100, 300, 500, 700, 900)),
        ("held_out",),
    ),
    Family(
        "filters",
        "Filters of clips",
        "TP, FP, TN and FN are shares of the clips that were held out.",
        (
            Column("TP", "TP", "", 2),
            Column("FP", "FP", "", 2),
            Column("TN", "TN", "", 2),
            Column("FN", "FN", "", 2),
            Column("accuracy", "Test Acc", "", 2),
            Column("majority", "Majority", "", 2),
            Column("auc", "AUC", "", 2),
        ),
        ("filters",),
    ),
    Family("other", "Other results", "Results of metrics that this version does not know."),
)
FAMILIES = {one.key: one for one in _FAMILIES}
