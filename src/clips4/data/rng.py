"""Random streams that depend on a seed and a place alone, so that a run can go on from any step."""

import numpy as np
import torch

ORDER, VIEW, PIXELS, UNKNOWN, SAMPLE, STEP = range(6)  # what a stream is for


def seeded(seed: int, stream: int, place: int = 0) -> torch.Generator:
    """The generator of one place of a stream; independent of every other place and stream."""
    high, low = np.random.SeedSequence([seed, stream, place]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed((int(high) << 32 | int(low)) & (2**63 - 1))
