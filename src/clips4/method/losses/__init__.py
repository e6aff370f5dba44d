"""One loss a file, as pure functions of tensors."""
