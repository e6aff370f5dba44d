"""The losses, one per file, as pure functions of tensors; nothing that weighs or combines them."""
