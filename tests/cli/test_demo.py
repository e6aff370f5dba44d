"""`clips4 demo`, with a small network and few steps."""

from pathlib import Path

import pytest

from clips4.cli.demo import PAGE, run_demo, sample_photographs
from clips4.config import load_config
from clips4.data.class_names import load_classes
from clips4.errors import UserError
from clips4.utils.images import load_rgb
from clips4.utils.progress import NoProgress
from tests.helpers import TINY


def test_sample_photographs_all_load() -> None:
    paths = sample_photographs()
    assert len(paths) >= 10
    assert {"chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png", "china.jpg", "flower.jpg"} <= {
        path.name for path in paths
    }
    for path in paths:
        assert min(load_rgb(path).shape[:2]) >= 300


def test_sample_photographs_missing_package_gives_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clips4.cli.demo.find_spec", lambda _: None)
    with pytest.raises(UserError, match="pip install"):
        sample_photographs()


def test_demo_preset_leaves_some_objects_unnamed() -> None:
    assert load_config("demo").prototypes.unknown > 0
    assert not {"table", "coin", "flag"} & set(load_classes("demo").names)


@pytest.mark.slow
def test_run_demo_twice_trains_once(tmp_path: Path) -> None:
    page = run_demo(tmp_path / "demo", TINY, "cpu", NoProgress())
    assert page == tmp_path / "demo" / PAGE
    text = page.read_text("utf-8")
    assert "stand-in" in text
    checkpoints = sorted((tmp_path / "demo" / "checkpoints").iterdir())
    times = [path.stat().st_mtime_ns for path in checkpoints]
    run_demo(tmp_path / "demo", TINY, "cpu", NoProgress())
    assert [path.stat().st_mtime_ns for path in checkpoints] == times
