"""Object masks of DAVIS: which rules fit, and the palette."""

from pathlib import Path

import numpy as np
from PIL import Image

from clips4.data.masks import davis_palette, guess_rules, read_mask
from tests.helpers import shared


def test_guess_rules_first_mask_gives_year(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 255]], np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.array([[0, 1]], np.uint8)).save(tmp_path / "b.png")
    assert guess_rules(tmp_path / "a.png") == "davis16"
    assert guess_rules(tmp_path / "b.png") == "davis17"
    assert read_mask(tmp_path / "a.png", "davis16").tolist() == [[0, 1]]
    assert read_mask(tmp_path / "a.png", "davis17").tolist() == [[0, 0]], "255 is void in 2017"


def test_davis_palette_first_colors_equal_the_published_ones() -> None:
    sequence = sorted((shared("davis16") / "Annotations/480p").iterdir())[0]
    assert guess_rules(sorted(sequence.iterdir())[0]) == "davis16"
    assert davis_palette()[:4].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
