"""Captions of clips: what `cogvx caption` and `cogvx v2v` without a prompt ask."""
