"""`clips4 publish`: a run as others can load it, in a folder or on the Hugging Face hub."""

from pathlib import Path
from typing import Annotated

import typer

from clips4.cli.arguments import AsJson
from clips4.cli.console import print_summary
from clips4.errors import UserError


def publish(
    run: Annotated[Path, typer.Argument(help="Folder of a run; its newest checkpoint is used.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write to; nothing is uploaded.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="Hub repository owner/name to upload to.")] = None,
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write or upload a run without the files that only resuming needs, with a model card."""
    from clips4.models.hub import push_to_hub, save_pretrained
    from clips4.utils.atomic_io import lock_file

    if (out is None) == (to is None):
        raise UserError("give either --out FOLDER or --to OWNER/NAME")
    if out is not None:
        with lock_file(out):
            folder = save_pretrained(run, out)
        print_summary(f"Wrote {folder}; its model card is {folder / 'README.md'}.", {"folder": folder}, as_json)
    else:
        address = push_to_hub(run, str(to), private=not public)
        print_summary(f"Uploaded to {to}: {address}", {"repository": to, "commit": address}, as_json)
