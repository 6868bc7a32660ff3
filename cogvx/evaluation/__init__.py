"""Judging what models made: whole clips to verdicts."""
