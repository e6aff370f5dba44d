"""The job of `clips4 regions`: regions of image files, written to files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from clips4.config import RegionConfig, load_config
from clips4.data.image_folder import JobOutcome, SkippedImage, find_images, reason_to_skip
from clips4.errors import UserError
from clips4.outputs.drawing import mean_colors, outlined
from clips4.regions.cache import RegionCache, makes_hierarchy
from clips4.regions.contours import check_edge_files
from clips4.utils.atomic_io import write_atomically
from clips4.utils.cache import cache_root, settings_key
from clips4.utils.images import RGB, encode_png, load_rgb, reduce_to
from clips4.utils.interrupts import deferred_interrupt
from clips4.utils.output_folder.manifest import write_entry
from clips4.utils.output_folder.output import Item, Output, open_folder, plan
from clips4.utils.parallel import map_items
from clips4.utils.progress import ProgressReporter

Kind = Literal["png", "overlay", "page"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class RegionWork:
    """Makes the regions of one image, for the cache and as files.

    Attributes:
        settings: how regions are made.
        output: where to write; None only fills the cache. Kinds: ``STEM.png``, 16-bit labels; ``STEM_overlay.png``,
            boundaries and mean colors; ``STEM.html``, the hierarchy at several levels.
        long_side: images are scaled down to it, as training does; 0 keeps their size.
        device: where HED runs.
        root: cache folder, passed on because workers may have started before it was set.
    """

    settings: RegionConfig
    output: Output | None
    root: Path
    long_side: int = 0
    device: str = "cpu"

    def __call__(self, item: Item) -> str | None:
        """Work on one image; the reason if it cannot be used, or its outputs cannot be written."""
        try:
            self._write(item)
        except Exception as error:
            return reason_to_skip(error)
        return None

    def _write(self, item: Item) -> None:
        image = load_rgb(item.path)
        if self.long_side:
            image = reduce_to(image, self.long_side)
        cache = RegionCache(self.settings, self.root, self.device)
        regions = cache(image, item.path)
        if self.output is None:
            return
        kinds, files = self.output.kinds_of(item), dict[str, bytes]()
        if "png" in kinds:
            files[f"{item.stem}.png"] = encode_png(regions.astype(np.uint16))
        if "overlay" in kinds:
            files[f"{item.stem}_overlay.png"] = encode_png(overlay(image, regions))
        if "page" in kinds:
            from clips4.regions.hierarchy_page import hierarchy_page

            page = hierarchy_page(image, cache.hierarchy(image, item.path), regions, item.path.name, self.settings)
            files[f"{item.stem}.html"] = page.encode(errors="backslashreplace")
        entry = self.output.begin(item, kinds, list(files), {})
        for name, content in files.items():
            write_atomically(self.output.folder / name, content)
        write_entry(self.output.folder, entry)


def overlay(image: RGB, regions: np.ndarray) -> RGB:
    """(H, W, 3) -> (H, 2 W + 4, 3), or (2 H + 4, W, 3) of a wide one: boundaries next to mean colors."""
    drawn, means = outlined(image, regions), mean_colors(image, regions)
    height, width = image.shape[:2]
    if width <= height:
        return np.concatenate([drawn, np.full((height, 4, 3), 255, np.uint8), means], 1)
    return np.concatenate([drawn, np.full((4, width, 3), 255, np.uint8), means], 0)


def region_settings(
    method: str, count: int, threshold: float | None, edges: Path | None, overrides: Sequence[str]
) -> RegionConfig:
    """The region settings that the command's options give.

    Raises:
        UserError: a method or key is unknown, a value out of range, or options contradict each other.
    """
    if method == "edges-ucm" and edges is None:
        raise UserError("--method edges-ucm needs edge maps; give their folder with --edges DIR")
    if method == "ready" and edges is None:
        raise UserError("--method ready needs region maps; give their folder with --maps DIR")
    if edges is not None and method not in ("edges-ucm", "ready"):
        raise UserError(f"--edges is for --method edges-ucm, not {method}; leave it out")
    if threshold is not None and not method.endswith("-ucm"):
        raise UserError(f"--threshold cuts a hierarchy, and {method} makes none; give --count instead")
    options: dict[str, object] = {"method": method, "count": count, "edges": edges and str(edges.expanduser())}
    if threshold is not None:
        options["threshold"] = threshold
    values = {name: value for name, value in options.items() if value is not None}
    for override in overrides:
        if not override.startswith("regions."):
            raise UserError(f"--set {override!r}: give a key of section regions, e.g. regions.small_share=0.001")
    return load_config(
        "cpu", [*(f"regions.{name}={json.dumps(value)}" for name, value in values.items()), *overrides]
    ).regions


def parse_kinds(text: str, settings: RegionConfig) -> tuple[Kind, ...]:
    """``png,overlay,page`` -> kinds.

    Raises:
        UserError: an unknown kind, or a page of a method without hierarchy.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words or [""]:
        if word not in KINDS:
            raise UserError(f"--save {word!r}: give one or more of {', '.join(KINDS)}")
    if "page" in words and not makes_hierarchy(settings):
        raise UserError(f"--save page shows a hierarchy, and {settings.method} makes none; give --method hed-ucm")
    return tuple(kind for kind in KINDS if kind in words)


def region_files(
    inputs: Sequence[Path],
    settings: RegionConfig,
    out: Path | None,
    save: str,
    workers: int,
    long_side: int,
    device: str,
    force: bool,
    progress: ProgressReporter,
) -> JobOutcome:
    """Make the regions of each image in files and folders, and write its files.

    Regions made before are read from the cache, so that an interrupted run resumes where it stopped.

    Raises:
        UserError: an unknown kind, a package or folder that all images need is missing, two images have one edge map,
            or see ``manifest.plan``.
    """
    kinds, paths = parse_kinds(save, settings), find_images(inputs)
    RegionCache(settings)  # raises once for a missing package or folder, not for every image
    if settings.edges is not None:
        check_edge_files(Path(settings.edges).expanduser(), paths, settings.method)
    output, items = None, [Item(path, "", "") for path in paths]
    if out is not None:
        key = settings_key({"regions": settings.model_dump(mode="json"), "long_side": long_side})
        output = Output(out, "regions", kinds, key, force)
        items = plan(output, paths, inputs)
        open_folder(output)
    progress.stage("regions", len(paths))
    work = RegionWork(settings, output, cache_root(), long_side, device)
    outcome = JobOutcome()
    with deferred_interrupt() as interrupted:
        for item, reason in map_items(work, items, workers, interrupted, preload=[__name__]):
            if reason is None:
                outcome.done.append(item.path)
            else:
                outcome.skipped.append(SkippedImage(item.path, reason))
            progress.advance({})
        outcome.interrupted = interrupted() and outcome.count < len(items)
    return outcome
