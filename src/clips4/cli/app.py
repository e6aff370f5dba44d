"""The typer application: global options, and one line per command."""

import math
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from clips4.cli.arguments import PRESETS
from clips4.cli.command import Command
from clips4.cli.commands.cluster import cluster
from clips4.cli.commands.config import config
from clips4.cli.commands.doctor import doctor
from clips4.cli.commands.export import export
from clips4.cli.commands.publish import publish
from clips4.cli.commands.regions import regions
from clips4.cli.commands.scoring.ablate import ablate
from clips4.cli.commands.scoring.evaluate import app as evaluate_app
from clips4.cli.commands.scoring.reproduce import reproduce
from clips4.cli.commands.scoring.score import app as score_app
from clips4.cli.commands.segment import segment
from clips4.cli.commands.serve import serve
from clips4.cli.commands.track import track
from clips4.cli.commands.train import train
from clips4.cli.commands.unknown import unknown
from clips4.cli.demo import demo
from clips4.cli.shell import QUIET, run
from clips4.errors import UserError

app = typer.Typer(
    name="clips4",
    help="CLIP-S4: learn pixel embeddings from unlabeled images and the guidance of a vision-language model, "
    "then segment by class names.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from clips4 import __version__

        typer.echo(f"clips4 {__version__}")
        raise typer.Exit


@app.callback()
def global_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; valid anywhere on the line.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only results and errors; valid anywhere on the line.")
    ] = False,
    max_megapixels: Annotated[
        float | None,
        typer.Option("--max-megapixels", help="Largest image that is read (default 64); valid anywhere on the line."),
    ] = None,
) -> None:
    """Set what holds for child processes, too; ``shell.run`` reads --debug."""
    if quiet:
        os.environ[QUIET] = "1"
    if max_megapixels is not None:
        if not 0 < max_megapixels < math.inf:
            raise UserError(f"--max-megapixels {max_megapixels}: give a positive number, such as 200")
        from clips4.utils.image_file import MEGAPIXELS

        os.environ[MEGAPIXELS] = str(max_megapixels)


def _add(function: Callable[..., None], epilog: str, more: str = "") -> None:
    """Add a command with examples below its options, and ``more`` text above them."""
    app.command(cls=Command, epilog=epilog, help=f"{function.__doc__}{more}")(function)


_add(demo, "Example: clips4 demo --out runs/demo")
_add(
    train,
    "Example: clips4 train photos/ --classes cat,dog,grass --out runs/pets --set train.steps=400",
    f"\n\n{PRESETS}",
)
_add(
    segment,
    "Examples: clips4 segment runs/pets photos/ --out segmented --save png,overlay,coco,gallery  ·  "
    "clips4 segment --teacher-only conse photos/ --classes cat,sofa --out segmented",
)
_add(cluster, "Example: clips4 cluster runs/pets photos/ --k 12 --out clusters --save png,overlay,gallery")
_add(
    track,
    "Examples: clips4 track runs/coco DAVIS/JPEGImages/480p/dog --mask dog.png --out tracked/dog  ·  "
    "clips4 track runs/coco clip.mp4 --mask first.png --out tracked/clip --record areas.json",
)
_add(unknown, "Example: clips4 unknown runs/pets photos/ --out unknown")
_add(
    regions,
    "Examples: clips4 regions photos/ --method hed-ucm --save png,overlay,page --out regions  ·  "
    "clips4 regions photos/ --method hed-ucm --long-side 512 --workers 8   (fills the cache for training)",
)
app.add_typer(evaluate_app)
app.add_typer(score_app)
_add(ablate, "Example: clips4 ablate photos/ --dataset coco128 --root coco128/ --out runs/ablation --grid losses")
_add(
    reproduce,
    "Examples: clips4 reproduce voc --data sets/ --out runs/paper --seeds 3  ·  "
    "clips4 reproduce context --data sets/ --dry-run",
)
_add(export, "Example: clips4 export runs/pets --out pets.onnx --int8 --calibrate photos/")
_add(serve, "Examples: clips4 serve runs/pets photos/  ·  clips4 serve --teacher-only conse photos/")
_add(publish, "Example: clips4 publish runs/pets --out pets-published; clips4 publish runs/pets --to owner/pets")
_add(config, "Examples: clips4 config  ·  clips4 config train --preset paper  ·  clips4 config objective.mode --json")
_add(doctor, "Example: clips4 doctor --json; clips4 doctor --data VOCdevkit/ --dataset voc21")


def main() -> None:
    """Entry point; see ``shell.run`` for exit codes."""
    # before torch is imported: its threads wait without spinning, which on a busy machine takes several times as long
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    sys.exit(run(app, sys.argv[1:]))
