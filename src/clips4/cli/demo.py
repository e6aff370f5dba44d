"""The demo: train on photographs inside scikit-image, scikit-learn and matplotlib, and show what came of it."""

from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from clips4.config import load_config
from clips4.data.class_names import load_classes
from clips4.errors import UserError
from clips4.evaluation.report.page import write_report
from clips4.models.checkpoint import checkpoint_folders
from clips4.training.loop import train
from clips4.utils.progress import ProgressReporter

PAGE = "index.html"

_PHOTOGRAPHS = {
    "skimage": (
        "data/chelsea.png",
        "data/coffee.png",
        "data/motorcycle_left.png",
        "data/motorcycle_right.png",
        "data/rocket.jpg",
        "data/astronaut.png",
        "data/camera.png",
        "data/coins.png",
    ),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
}


def sample_photographs() -> list[Path]:
    """The sample photographs, as files inside the installed packages.

    Raises:
        UserError: a package or a picture is missing.
    """
    paths = []
    for package, names in _PHOTOGRAPHS.items():
        if find_spec(package) is None:
            raise UserError(f"the demo's photographs need the package {package}: pip install 'clips4[demo]'")
        paths += [Path(str(files(package).joinpath(name))) for name in names]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise UserError(f"{missing[0]}: this sample photograph is not in the installed package; reinstall it")
    return paths


def run_demo(out: Path, overrides: list[str], device: str, progress: ProgressReporter) -> Path:
    """Train by the preset "demo" on the sample photographs and write the page.

    A run that stands in ``out`` already is gone on with, or only shown where it is complete.

    Returns:
        The path of the page.
    """
    config = load_config("demo", overrides)
    photographs, classes = sample_photographs(), load_classes("demo")
    train(photographs, classes, config, out, bool(checkpoint_folders(out)), device, progress)
    page = out / PAGE
    write_report(page, out, photographs, device, progress)
    return page
