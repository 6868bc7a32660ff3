"""What people and machines say of clips: labels, and the pages and questions that ask for them."""
