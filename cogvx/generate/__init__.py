"""Clips from prompts, images and clips: what `sample`, `i2v`, `v2v` and the previews of a training run use."""
