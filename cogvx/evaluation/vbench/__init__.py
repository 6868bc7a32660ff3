"""VBench: its prompt suite, the rules of its dimensions, and the official package in an environment of its own.

A number bears the name of a VBench dimension only if it is computed by that dimension's rule with that dimension's
network; with another network it is named after both, as in `dynamic_degree@dis`.

Source: Huang et al.: VBench: Comprehensive Benchmark Suite for Video Generative Models (arXiv 2311.17982);
Vchitect/VBench 0.1.5.
"""
