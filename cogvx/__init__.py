"""Command-line toolkit for the CogVideoX text-to-video system."""

__version__ = "0.1.0"
