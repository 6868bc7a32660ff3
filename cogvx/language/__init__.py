"""Questions to language models, whether they run behind an OpenAI-compatible endpoint or in this process."""
