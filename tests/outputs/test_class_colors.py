"""Colors by name: what they are, that they are distinct, and that the page computes the same."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from clips4.data.class_names import builtin_class_files, load_classes
from clips4.outputs.class_colors import class_colors
from clips4.utils.images import UNKNOWN_COLOR

PAGE = Path(__file__).parents[2] / "src/clips4/assets/serve"


def test_class_colors_of_things_with_a_color_are_theirs() -> None:
    sky, grass, water, road = class_colors(["Sky", "grass", "water-other", "road"]).astype(int)
    assert sky[2] == max(sky)
    assert grass[1] == max(grass)
    assert water[2] == max(water)
    assert np.ptp(road) < 20
    np.testing.assert_array_equal(class_colors(["trees"]), class_colors(["wet tree"]))


def test_class_colors_of_a_name_are_the_same_in_every_list() -> None:
    for name in ("sky", "brush", "Käse", "traffic light"):
        alone = class_colors([name])[0]
        np.testing.assert_array_equal(class_colors(["hammer", name])[1], alone)
    assert class_colors([]).shape == (0, 3)


@pytest.mark.parametrize("names", [builtin_class_files()], ids=["shipped lists"])
def test_class_colors_within_a_list_are_distinct_and_not_unknown(names: list[str]) -> None:
    for file in names:
        colors = class_colors(load_classes(file).names).tolist()
        distinct = {tuple(color) for color in [*colors, list(UNKNOWN_COLOR)]}
        assert len(distinct) == len(colors) + 1, file


def test_class_colors_of_alike_names_look_different() -> None:
    colors = class_colors(["tree", "trees", "man", "person", "road", "street"]).astype(int)
    apart = np.abs(colors[:, None] - colors[None]).sum(2) + 1000 * np.eye(6, dtype=int)
    assert apart.min() > 50


def test_class_colors_of_more_names_than_candidates_are_given() -> None:
    assert class_colors([f"name {index}" for index in range(300)]).shape == (300, 3)
    assert len(np.unique(class_colors([f"name {index}" for index in range(250)]), axis=0)) == 250


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_page_computes_the_same_colors() -> None:
    lists = [list(load_classes(file).names) for file in builtin_class_files()]
    lists.append(["Käse", "名前", "sky_other", "a  b", "x" * 90, "trees", *(f"n{index}" for index in range(280))])
    code = (
        f"import {{ classColors }} from {json.dumps((PAGE / 'colors.js').as_uri())};"
        f"console.log(JSON.stringify({json.dumps(lists)}.map(classColors)))"
    )
    done = subprocess.run(["node", "--input-type=module", "-e", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [class_colors(names).tolist() for names in lists]
