"""A trained model in use, from one image to a folder; no training and no scores."""
