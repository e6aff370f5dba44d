"""`clips4 serve`: the page on which one types class names and clicks."""

from pathlib import Path
from typing import Annotated

import typer

from clips4.cli.arguments import Device, TeacherOnly, Use, check_run_first, expand_paths
from clips4.cli.console import echo, print_note


def serve(
    run_and_images: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN [IMAGES]...",
            help="The run, then images or folders of them that the page offers.",
            callback=expand_paths,
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to bind to; other machines reach it if not local.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 8004,
    forget: Annotated[
        float, typer.Option("--forget", min=0.1, help="Minutes after which the images of an idle browser are dropped.")
    ] = 60,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page where there is a screen.")] = (
        True
    ),
    teacher_only: TeacherOnly = None,
    use: Use = "auto",
    device: Device = "auto",
) -> None:
    """Open a page to type class names, see labels and why, correct them by clicks, and export masks."""
    from clips4.serve.server import bind, make_api, require_serve, serve

    require_serve()
    from clips4.inference.jobs.load import load_page_segmenter
    from clips4.serve.http.security import is_local

    if not teacher_only:
        check_run_first(run_and_images or [], "clips4 serve")
    if not is_local(host):
        print_note(
            f"--host {host}: other machines can reach this server, without encryption; whoever has an address that it "
            "prints can use it"
        )
    with bind(host, port) as bound:
        segmenter, run, images = load_page_segmenter(run_and_images or [], teacher_only, device, use)
        title = teacher_only or (run.name if run else "") or str(run)
        serve(make_api(segmenter, run, images, title, forget), host, bound, echo, browser)
