"""Numbers from pairs of clips."""
