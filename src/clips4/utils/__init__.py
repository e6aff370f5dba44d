"""Files, devices, processes, images as arrays; whatever knows no model, no data set and no command."""
