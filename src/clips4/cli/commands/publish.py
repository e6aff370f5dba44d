"""`clips4 publish`: a run as others can load it, in a folder or on the hub."""

from pathlib import Path
from typing import Annotated

import typer

from clips4.cli.console import summarise
from clips4.errors import UserError


def publish(
    run: Annotated[Path, typer.Argument(help="Folder of a run; its newest checkpoint is taken.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write; nothing is uploaded.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="Hub repository owner/name to upload to.")] = None,
    public: Annotated[bool, typer.Option("--public", help="Anybody may see a repository that is new.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Write or upload a run without what only resuming needs, with a model card made from it."""
    from clips4.models.hub import push_to_hub, save_pretrained

    if (out is None) == (to is None):
        raise UserError("give --out FOLDER or --to OWNER/NAME, one of the two")
    if out is not None:
        folder = save_pretrained(run, out)
        summarise(f"Wrote {folder}; look at {folder / 'README.md'}.", {"folder": folder}, as_json)
    else:
        address = push_to_hub(run, str(to), private=not public)
        summarise(f"Uploaded to {to}: {address}", {"repository": to, "commit": address}, as_json)
