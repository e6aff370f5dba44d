"""`clips4 export`: a run's student as an ONNX file, or as a page that runs it in a browser."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clips4.cli.arguments import AsJson, expand_paths
from clips4.cli.console import print_summary
from clips4.errors import UserError

if TYPE_CHECKING:
    from clips4.models.onnx.quantize import Agreement


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or of one of its checkpoints.")],
    out: Annotated[Path | None, typer.Option("--out", help="The file to write, ending in .onnx.")] = None,
    web: Annotated[
        Path | None,
        typer.Option(
            "--web", help="Write a page instead, which runs the student in a browser: a folder for any server."
        ),
    ] = None,
    text: Annotated[
        bool,
        typer.Option("--text", help="Write the text encoder of new names beside the file; built-in teacher only."),
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Static int8 quantization; reports the agreement with float32.")
    ] = False,
    calibrate: Annotated[
        list[Path] | None,
        typer.Option(
            "--calibrate",
            help="Images or folders to calibrate --int8 on, like those it will run on; may be repeated.",
            callback=expand_paths,
        ),
    ] = None,
    onnxruntime: Annotated[
        Path | None,
        typer.Option(
            "--onnxruntime", help="For --web: a copy of the npm package onnxruntime-web; else npm downloads it."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the student as ONNX, for images of any size; class vectors are an input, so classes can still change."""
    from clips4.data.image_folder import find_images

    if (out is None) == (web is None):
        raise UserError("give --out FILE.onnx for the student alone, or --web FOLDER for a page that runs it")
    if onnxruntime and not web:
        raise UserError("--onnxruntime belongs to --web; leave it out")
    if text and not out:
        raise UserError("--text belongs to --out; leave it out")
    if int8 != bool(calibrate):
        raise UserError("--int8 and --calibrate IMAGES go together: int8 needs some dozens of images to calibrate on")
    images = find_images(calibrate) if calibrate else None
    if web:
        _export_page(run, web, onnxruntime, images, as_json)
    elif out:
        _export_file(run, out, images, text, as_json)


def _export_file(run: Path, out: Path, images: list[Path] | None, text_too: bool, as_json: bool) -> None:
    from clips4.models.onnx.export import export_onnx
    from clips4.models.onnx.metadata import SUFFIX
    from clips4.models.onnx.text_encoder import text_files
    from clips4.utils.atomic_io import lock_file

    if out.suffix != SUFFIX:
        raise UserError(f"--out {out}: give a file that ends in {SUFFIX}")
    with lock_file(out):
        report = export_onnx(run, out, images, text_too)
    beside = text_files(out) if text_too else ()
    sizes = ", ".join(f"{path.name} ({path.stat().st_size / 2**20:.1f} MiB)" for path in beside)
    text = (
        f"Wrote {out} ({report.bytes / 2**20:.1f} MiB, {report.precision}){f' and {sizes}' if sizes else ''}; the "
        f"float32 graph differs from torch by at most {report.difference:.1e} on {len(report.sizes)} sizes. "
        f"Next: clips4 segment {out} IMAGES --out DIR"
    )
    print_summary(text, {**asdict(report), "path": out, "text": list(beside)}, as_json)
    _print_agreement(report.agreement, as_json)


def _export_page(run: Path, web: Path, runtime: Path | None, images: list[Path] | None, as_json: bool) -> None:
    from clips4.serve.page.folder import export_page

    report = export_page(run, web, runtime, images)
    text = (
        f"Wrote {web} ({report.bytes / 1e6:.1f} MB, {report.page_bytes / 1e3:.0f} kB without model and runtime; "
        f"{report.names} names). Next: python -m http.server --directory {web}"
    )
    print_summary(text, {**asdict(report), "path": web}, as_json)
    _print_agreement(report.agreement, as_json)


def _print_agreement(agreement: "Agreement | None", as_json: bool) -> None:
    if agreement and not as_json:
        which = "held-out images" if agreement.held_out else "the calibration images"
        print_summary(
            f"int8 against float32 on {agreement.images} {which}: same class at {agreement.same_label:.2%} of the "
            f"positions, mean cosine {agreement.cosine:.4f}"
        )
