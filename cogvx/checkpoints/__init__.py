"""Checkpoints in every layout of the field."""
