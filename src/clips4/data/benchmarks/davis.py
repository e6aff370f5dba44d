"""DAVIS-2016 and -2017: sequences of frames with masks."""

from dataclasses import dataclass
from pathlib import Path

from clips4.data.pairs import files_in
from clips4.errors import UserError
from clips4.utils.text import first_columns

LAYOUT = "JPEGImages/480p/SEQUENCE/*.jpg, Annotations/480p/SEQUENCE/*.png, ImageSets/{480p or 2016, 2017}/val.txt"
SPLITS = {"davis16": {"val": 20, "train": 30}, "davis17": {"val": 30, "train": 60}}


@dataclass(frozen=True)
class Sequence:
    """Frames in order, and as many masks with the same stems."""

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]


def load_davis(root: Path, year: str = "davis16", split: str = "val", resolution: str = "480p") -> list[Sequence]:
    """The sequences of a split; all sequences if the copy has no lists.

    Args:
        root: folder that the archive unpacks to.
        year: "davis16" (one object) or "davis17" (several).
        split: "val" or "train".
        resolution: folder of the frames, such as "480p" or "Full-Resolution".

    Raises:
        UserError: there are no sequences, or frames lack masks.
    """
    if year not in SPLITS or split not in SPLITS[year]:
        raise UserError(f"{year} {split}: give davis16 or davis17, and val or train")
    frames_root, masks_root = root / "JPEGImages" / resolution, root / "Annotations" / resolution
    if not frames_root.is_dir() or not masks_root.is_dir():
        raise UserError(
            f"{root}: no JPEGImages/{resolution} and Annotations/{resolution} in this folder; layout of DAVIS: {LAYOUT}"
        )
    names = _names_in_list(root, year, split, resolution)
    if names is None:
        names = sorted(path.name for path in masks_root.iterdir() if path.is_dir())
    return [_sequence(name, frames_root / name, masks_root / name) for name in names]


def _names_in_list(root: Path, year: str, split: str, resolution: str) -> list[str] | None:
    """Names in the split's list, None if there is none. Lists of 2016 have a line per frame, those of 2017 a name."""
    for folder in ("2016", resolution, "480p") if year == "davis16" else ("2017",):
        path = root / "ImageSets" / folder / f"{split}.txt"
        if path.is_file():
            return list(dict.fromkeys(Path(word).parent.name if "/" in word else word for word in first_columns(path)))
    return None


def _sequence(name: str, frames: Path, masks: Path) -> Sequence:
    found, labels = files_in(frames, ".jpg"), files_in(masks, ".png")
    if len(found) < 3 or not labels:
        raise UserError(f"{frames}: {len(found)} frames and {len(labels)} masks; a sequence has at least three of each")
    if odd := {path.stem for path in found} ^ {path.stem for path in labels}:
        raise UserError(f"{frames}: frame {min(odd)} has no mask in {masks}, or the mask no frame")
    return Sequence(name, tuple(found), tuple(labels))
