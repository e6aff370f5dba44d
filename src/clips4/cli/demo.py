"""`clips4 demo`: train on the photographs of scikit-image, scikit-learn and matplotlib, and write a report."""

from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clips4.cli.arguments import AsJson, Device, Overrides
from clips4.cli.console import print_note, print_summary, progress_bars
from clips4.errors import UserError
from clips4.utils.extras import install_command

if TYPE_CHECKING:
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


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder of the run and its report.")] = Path("runs/demo"),
    overrides: Overrides = None,
    as_json: AsJson = False,
    device: Device = "auto",
) -> None:
    """Train on sample photographs, offline, and write an HTML report of what was learned."""
    from clips4.training.quality.report import read_quality

    with progress_bars() as progress:
        page = run_demo(out, overrides or [], device, progress)
    if quality := read_quality(out):
        print_note(quality.line())
    print_summary(f"Open {page} in a browser.", {"run": out, "report": page}, as_json)


def sample_photographs() -> list[Path]:
    """The sample photographs, as files inside the installed packages.

    Raises:
        UserError: a package or a photograph is missing.
    """
    paths = []
    for package, names in _PHOTOGRAPHS.items():
        if find_spec(package) is None:
            distribution = {"sklearn": "scikit-learn", "skimage": "scikit-image"}.get(package, package)
            raise UserError(f"the demo's photographs need {distribution}: {install_command(distribution)}")
        paths += [Path(str(files(package).joinpath(name))) for name in names]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise UserError(f"{missing[0]}: this sample photograph is missing from its package; reinstall the package")
    return paths


def run_demo(out: Path, overrides: list[str], device: str, progress: "ProgressReporter") -> Path:
    """Train with the preset "demo" on the sample photographs and write the report.

    An unfinished run in ``out`` is resumed; for a complete one only the report is written.

    Returns:
        The path of the report.
    """
    from clips4.config import load_config
    from clips4.data.class_names import load_classes
    from clips4.evaluation.report.page import write_report
    from clips4.models.checkpoint import checkpoint_folders
    from clips4.training.loop import train

    config = load_config("demo", overrides)
    photographs, classes = sample_photographs(), load_classes("demo")
    train(photographs, classes, config, out, bool(checkpoint_folders(out)), device, progress)
    page = out / PAGE
    write_report(page, out, photographs, device, progress)
    return page
