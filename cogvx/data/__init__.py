"""Files to tensors and records, and back."""
