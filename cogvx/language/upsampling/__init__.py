"""Short prompts to the long ones that the model was trained on: by a language model, or by the rules of Storyboard."""
