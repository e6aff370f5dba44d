"""What needs more than one frame: label propagation and temporal smoothing."""
