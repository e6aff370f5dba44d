"""`clips4 export`: a run's student as an ONNX file."""

from pathlib import Path
from typing import Annotated

import typer

from clips4.cli.arguments import AsJson, expand_paths
from clips4.cli.console import print_summary
from clips4.errors import UserError


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or of one of its checkpoints.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write, ending in .onnx.")],
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
    as_json: AsJson = False,
) -> None:
    """Write the student as ONNX, for images of any size; class vectors are an input, so classes can still change."""
    from dataclasses import asdict

    from clips4.data.image_folder import find_images
    from clips4.models.onnx.export import export_onnx
    from clips4.models.onnx.metadata import SUFFIX
    from clips4.utils.atomic_io import lock_file

    if out.suffix != SUFFIX:
        raise UserError(f"--out {out}: give a file that ends in {SUFFIX}")
    if int8 != bool(calibrate):
        raise UserError("--int8 and --calibrate IMAGES go together: int8 needs some dozens of images to calibrate on")
    images = find_images(calibrate) if calibrate else None
    with lock_file(out):
        report = export_onnx(run, out, images)
    text = (
        f"Wrote {out} ({report.bytes / 2**20:.1f} MiB, {report.precision}); the float32 graph differs from torch by "
        f"at most {report.difference:.1e} on {len(report.sizes)} sizes. Next: clips4 segment {out} IMAGES --out DIR"
    )
    print_summary(text, {**asdict(report), "path": out}, as_json)
    if (agreement := report.agreement) and not as_json:
        which = "held-out images" if agreement.held_out else "the calibration images"
        print_summary(
            f"int8 against float32 on {agreement.images} {which}: same class at {agreement.same_label:.2%} of the "
            f"positions, mean cosine {agreement.cosine:.4f}"
        )
