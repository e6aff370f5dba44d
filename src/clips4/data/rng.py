"""Random generators that depend only on a seed and a position, so that a run can resume at any step."""

import numpy as np
import torch

ORDER, VIEW, PIXELS, UNKNOWN, SAMPLE, STEP = range(6)  # the streams


def seeded(seed: int, stream: int, place: int = 0) -> torch.Generator:
    """The generator of one position of a stream; independent of every other position and stream."""
    high, low = np.random.SeedSequence([seed, stream, place]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed((int(high) << 32 | int(low)) & (2**63 - 1))
