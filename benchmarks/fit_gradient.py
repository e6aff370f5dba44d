"""Fit the cue weights of the gradient detector to human contours.

    python benchmarks/fit_gradient.py --data ../shared/data/bsds500

Reads the 200 train photographs of BSDS500 (never val or test) and prints ``CUES`` and ``BIAS`` of
``clips4/regions/gradient.py``: a logistic regression, with weights that may not be negative, of the share of people who
drew a contour within 1.5 pixels on the logarithms of the cue strengths.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.optimize import minimize

from clips4.data.benchmarks.bsds import load_bsds
from clips4.regions.gradient import FLOOR, cue_strengths
from clips4.utils.images import boundaries

_SAMPLES, _NEAR = 6000, 1.5  # pixels per photograph; pixels from a contour


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/bsds500"))
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    strengths, truth = [], []
    for photograph in load_bsds(arguments.data, "train"):
        cues = cue_strengths(photograph.image)
        drawn = [distance_transform_edt(~boundaries(labels)) <= _NEAR for labels in photograph.truths]
        sample = random.integers(0, drawn[0].size, _SAMPLES)
        strengths.append(np.stack([cue.ravel()[sample] for cue in cues.values()], 1))
        truth.append(np.mean(drawn, 0).ravel()[sample])
    x, y = np.concatenate(strengths).astype(np.float64), np.concatenate(truth)
    spread = x.std(0)
    logs = np.log(x / spread + FLOOR)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        logits = logs @ parameters[:-1] + parameters[-1]
        error = (1 / (1 + np.exp(-logits)) - y) / len(y)
        return float((np.logaddexp(0, logits) - y * logits).mean()), np.append(logs.T @ error, error.sum())

    bounds = [(0, None)] * len(spread) + [(None, None)]
    fit = minimize(loss, np.zeros(len(spread) + 1), jac=True, bounds=bounds, method="L-BFGS-B")
    print(f"# cross-entropy {fit.fun:.5f} of {len(y)} pixels; at weights 0 {loss(np.zeros_like(fit.x))[0]:.5f}")
    print("CUES = {")
    for name, cue_spread, weight in zip(cues, spread, fit.x, strict=False):
        print(f'    "{name}": Cue({cue_spread:.4g}, {weight:.4f}),')
    print(f"}}\nBIAS = {fit.x[-1]:.4f}")


if __name__ == "__main__":
    main()
