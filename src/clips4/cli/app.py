"""The commands: parse, call, print."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from clips4.cli.arguments import expand_paths
from clips4.cli.commands.ablate import ablate
from clips4.cli.commands.cluster import cluster
from clips4.cli.commands.evaluate import app as evaluate_app
from clips4.cli.commands.export import export
from clips4.cli.commands.publish import publish
from clips4.cli.commands.score import app as score_app
from clips4.cli.commands.segment import segment
from clips4.cli.commands.track import track
from clips4.cli.commands.unknown import unknown
from clips4.cli.console import listed, remark, summarise
from clips4.cli.shell import run
from clips4.errors import UserError

app = typer.Typer(
    name="clips4",
    help="CLIP-S4: learn pixel embeddings from unlabelled pictures and the guidance of a vision-language model, "
    "then segment by words.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Classes = Annotated[
    str,
    typer.Option("--classes", help="A file with one name per line ('name: alias, alias'), a shipped list, or a,b,c."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]


def _version(value: bool) -> None:
    if value:
        from clips4 import __version__

        typer.echo(f"clips4 {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only answers and errors; may stand anywhere.")] = False,
) -> None:
    """Options of every command; --debug and --quiet are read by shell.run()."""


@app.command(epilog="Example: clips4 demo --out runs/demo")
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder of the run and its page.")] = Path("runs/demo"),
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value; may be repeated.")] = None,
    device: Device = "auto",
) -> None:
    """Train on sample photographs, offline, and write a page that shows what was learned."""
    from clips4.cli.bars import bars
    from clips4.cli.demo import run_demo

    with bars() as progress:
        page = run_demo(out, overrides or [], device, progress)
    summarise(f"Open {page} in a browser.")


@app.command(epilog="Example: clips4 train photos/ --classes cat,dog,grass --out runs/pets --set train.steps=400")
def train(
    images: Annotated[
        list[Path],
        typer.Argument(
            help="Pictures, folders or lists (.txt) of them, or tar shards (dir/{000..099}.tar); - for a list on the "
            "standard input.",
            callback=expand_paths,
        ),
    ],
    classes: Classes,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    teacher: Annotated[
        str | None, typer.Option("--teacher", help="conse, a saved CLIP's folder, or a hub id owner/name[@revision].")
    ] = None,
    preset: Annotated[str, typer.Option("--preset", help="A shipped preset, or a YAML file.")] = "cpu",
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value; may be repeated.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's newest checkpoint.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Say for machines what was trained.")] = False,
    validate: Annotated[
        str | None, typer.Option("--validate", help="NAME=DIR: score this labelled set every train.eval_every steps.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Train a student on unlabelled pictures. Started by torchrun or Slurm, on many devices."""
    from clips4.cli.bars import bars
    from clips4.config import load_config
    from clips4.data.class_names import load_classes
    from clips4.data.image_source import find_training_images
    from clips4.evaluation.callbacks import make_callback, open_labelled
    from clips4.training.loop import Interrupted
    from clips4.training.loop import train as run_training
    from clips4.utils import distributed

    chosen = [f"teacher.name={json.dumps(teacher)}"] if teacher else []
    config = load_config(preset, [*chosen, *(overrides or [])])
    pictures, names = find_training_images(images), load_classes(classes)
    callback = make_callback(pictures, config, out, open_labelled(validate, config) if validate else None)
    try:
        with bars() as progress:
            result = run_training(pictures, names, config, out, resume, device, progress, callback)
    except Interrupted as interrupted:
        typer.echo(f"Stopped at step {interrupted.step} and saved; the same command with --resume goes on.", err=True)
        raise typer.Exit(130)
    if distributed.rank():  # several processes tell it once
        return
    for _, reason in result.skipped:
        remark(f"skipped: {reason}")
    if result.left_out_steps:
        remark(f"{result.left_out_steps} steps were left out: their loss or gradient was not finite")
    summarise(
        f"Trained on {result.images} pictures ({len(result.skipped)} skipped), {result.steps} steps. "
        f"Now: clips4 segment {out} IMAGES --out DIR",
        {
            "run": out,
            "pictures": result.images,
            "skipped": {str(path): reason for path, reason in result.skipped},
            "steps": result.steps,
        },
        as_json,
    )


@app.command(
    epilog="Examples: clips4 regions photos/ --method hed-ucm --save png,overlay,page --out regions  ·  "
    "clips4 regions photos/ --method hed-ucm --long-side 512 --workers 8   (fills the cache for training)"
)
def regions(
    images: Annotated[
        list[Path], typer.Argument(help="Pictures, or folders of them; - for a list.", callback=expand_paths)
    ],
    method: Annotated[
        str, typer.Option("--method", help="slic, felzenszwalb, gradient-ucm, hed-ucm or edges-ucm.")
    ] = "slic",
    count: Annotated[int, typer.Option("--count", help="Regions: about so many (slic), else at most.")] = 48,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="*-ucm: keep contours stronger than this, 0 to 1.")
    ] = None,
    edges: Annotated[
        Path | None, typer.Option("--edges", help="edges-ucm: folder of edge maps, STEM.png or STEM.npy.")
    ] = None,
    save: Annotated[str, typer.Option("--save", help="Some of png,overlay,page.")] = "png,overlay",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write to; without it only the cache is filled.")
    ] = None,
    long_side: Annotated[
        int, typer.Option("--long-side", min=0, help="Reduce pictures to this, as training does; 0 does not.")
    ] = 0,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes.")] = 1,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="regions.key=value; may be repeated.")] = None,
    device: Annotated[str, typer.Option("--device", help="Where HED runs: auto, cpu, cuda or mps.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Say for machines what was done.")] = False,
) -> None:
    """Divide pictures into visually coherent regions: for each a 16-bit label PNG and an overlay."""
    from clips4.cli.bars import bars
    from clips4.regions.job import region_files, region_settings
    from clips4.utils.devices import pick_device
    from clips4.utils.images import find_images

    settings = region_settings(method, count, threshold, edges, overrides or [])
    where = str(pick_device(device))
    with bars() as progress:
        done = region_files(find_images(images), settings, out, save, workers, long_side, where, progress)
    for _, reason in done.skipped:
        remark(f"skipped: {reason}")
    if done.interrupted:
        typer.echo(f"Stopped after {len(done.done)} pictures; the same command goes on from there.", err=True)
        raise typer.Exit(130)
    text = f"Regions of {len(done.done)} pictures ({len(done.skipped)} skipped) in {out or 'the cache'}."
    summarise(text, {**listed(done), "out": out}, as_json)
    if not done.done:
        raise UserError(f"none of {len(done.skipped)} pictures could be used")


@app.command(epilog="Example: clips4 doctor --json; clips4 doctor --data VOCdevkit/ --dataset voc21")
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    data: Annotated[Path | None, typer.Option("--data", help="Check a copy of a set instead: its root.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Name of the set.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Its split; the validation part.")] = None,
) -> None:
    """Say versions, devices, weights found, and what is missing for which command; or check a copy of a set."""
    from clips4.cli.doctor import describe, diagnose

    if data is not None or dataset is not None:
        from clips4.cli.check import check_copy

        check_copy(data, dataset, split, as_json)
        return
    report = diagnose()
    typer.echo(json.dumps(report, indent=2) if as_json else describe(report))
    if report["missing"]:
        raise typer.Exit(1)


app.command(epilog="Example: clips4 export runs/pets --out pets.onnx --int8 --calibrate photos/")(export)
app.command(epilog="Example: clips4 publish runs/pets --out pets-published; clips4 publish runs/pets --to owner/pets")(
    publish
)
app.command(
    epilog="Examples: clips4 segment runs/pets photos/ --out answers --save png,overlay,coco,gallery  ·  "
    "clips4 segment --teacher-only conse photos/ --classes cat,sofa --out answers"
)(segment)
app.command(epilog="Example: clips4 cluster runs/pets photos/ --k 12 --out clusters --save png,overlay,gallery")(
    cluster
)
app.command(
    epilog="Examples: clips4 track runs/coco DAVIS/JPEGImages/480p/dog --mask dog.png --out tracked/dog  ·  "
    "clips4 track runs/coco clip.mp4 --mask first.png --out tracked/clip --json areas.json"
)(track)
app.command(epilog="Example: clips4 unknown runs/pets photos/ --out unknown")(unknown)
app.add_typer(evaluate_app)
app.add_typer(score_app)
app.command(
    epilog="Example: clips4 ablate photos/ --dataset coco128 --root coco128/ --out runs/ablation --grid losses"
)(ablate)


def main() -> None:
    """Entry point; see ``shell.run`` for exit codes."""
    sys.exit(run(app, sys.argv[1:]))
