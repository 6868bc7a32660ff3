"""Selections: a small language over the columns of manifests, with quantiles, and reasons for what is rejected."""

from cogvx.data.select.options import SelectOptions, make_options
from cogvx.data.select.parser import Expression, parse_condition, parse_value
from cogvx.data.select.select import Selector, SelectResult, Shard
from cogvx.data.select.training import refusals

__all__ = [
    "Expression",
    "SelectOptions",
    "SelectResult",
    "Selector",
    "Shard",
    "make_options",
    "parse_condition",
    "parse_value",
    "refusals",
]
