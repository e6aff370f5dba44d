"""The training loop and what it keeps; nothing here is needed to use a trained model."""
