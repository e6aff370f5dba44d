"""Dense attention: how a tower's last blocks give each patch a vector in the text space."""
