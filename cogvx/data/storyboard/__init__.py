"""Storyboard, the synthetic world: rendered clips with exact truth.

`spec_at(seed, index)` is the truth of a clip, `render(spec)` its frames, `captions(spec, rng)` its descriptions.
"""

from cogvx.data.storyboard.captions import caption_variants, captions, dense_caption, plain_caption, short_caption
from cogvx.data.storyboard.motion import trajectory
from cogvx.data.storyboard.render import render
from cogvx.data.storyboard.sampling import StoryboardOptions, rng_of, sample_spec, spec_at
from cogvx.data.storyboard.spec import ObjectSpec, SceneSpec, split_of, why_illegal
from cogvx.data.storyboard.vocabulary import ACTIONS, CAMERAS, COLOURS, OBJECTS, SCENES, SIZES, STYLES

__all__ = [
    "ACTIONS",
    "CAMERAS",
    "COLOURS",
    "OBJECTS",
    "SCENES",
    "SIZES",
    "STYLES",
    "ObjectSpec",
    "SceneSpec",
    "StoryboardOptions",
    "caption_variants",
    "captions",
    "dense_caption",
    "plain_caption",
    "render",
    "rng_of",
    "sample_spec",
    "short_caption",
    "spec_at",
    "split_of",
    "trajectory",
    "why_illegal",
]
