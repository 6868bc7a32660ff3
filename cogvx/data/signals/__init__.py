"""Numbers about clips for choosing among them: motion, sharpness, text, bars, duplicates, one file a signal."""
