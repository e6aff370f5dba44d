"""Networks and a trained model at rest: student, backbones, teachers, checkpoints, export; no loss and no loop."""
