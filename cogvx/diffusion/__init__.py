"""Noise schedule, samplers and guidance: arithmetic on tensors, knows no model."""
