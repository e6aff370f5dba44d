"""What is stored with every score, so that it can be checked and repeated; JSON."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from clips4.evaluation.metrics.confusion import ImageScore, Scores
from clips4.evaluation.metrics.davis import TrackingScores
from clips4.evaluation.predictions import SemanticScores, TrackingReport
from clips4.utils.atomic_io import write_atomically
from clips4.utils.extras import versions


def provenance() -> dict[str, object]:
    """Commit of clips4 (None where it is no checkout; "+" where files differ from it), versions, the command."""
    import platform

    return {
        "commit": _commit(),
        "versions": versions(),
        "machine": f"{platform.system()} {platform.machine()}",
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def _commit() -> str | None:
    """``git rev-parse HEAD`` of the folder this file lies in, if that is clips4's own checkout."""
    here = Path(__file__).parent
    try:
        top = subprocess.run(["git", "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        owned = subprocess.run(["git", "-C", here, "ls-files", "--error-unmatch", __file__], capture_output=True)
        changed = subprocess.run(["git", "-C", here, "status", "--porcelain", "-uno"], capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return None if owned.returncode else top.stdout.strip() + ("+" if changed.stdout.strip() else "")


def class_table(found: Scores, names: Sequence[str], unknown: frozenset[str] = frozenset()) -> list[dict[str, object]]:
    """A line per class: IoU (None where it occurs neither in truth nor in prediction), and whether the truth has it."""
    return [
        {
            "name": name,
            "iou": None if np.isnan(iou) else float(iou),
            "in_truth": bool(present),
            **({"known": name not in unknown} if unknown else {}),
        }
        for name, iou, present in zip(names, found.iou, found.present, strict=True)
    ]


def describe_scores(found: Scores, names: Sequence[str], unknown: frozenset[str] = frozenset()) -> dict[str, object]:
    """JSON-ready scores of a set."""
    present, predicted = found.present, ~np.isnan(found.iou)
    record: dict[str, object] = {
        "miou": found.miou,
        "miou_present": found.miou_present,
        "pixel_accuracy": found.pixel_accuracy,
        "mean_accuracy": found.mean_accuracy,
        "pixels": found.pixels,
        "classes": len(names),
        "classes_in_truth": int(present.sum()),
        "classes_only_predicted": int((predicted & ~present).sum()),
        "classes_in_neither": int((~predicted).sum()),
    }
    if unknown:
        record |= known_and_unknown_miou(found, names, unknown)
    return {**record, "per_class": class_table(found, names, unknown)}


def known_and_unknown_miou(found: Scores, names: Sequence[str], unknown: frozenset[str]) -> dict[str, object]:
    """mIoU of the known and of the unknown classes, over those in the truth; all names are queried."""
    is_unknown = np.array([name in unknown for name in names])
    parts = {"known": found.present & ~is_unknown, "unknown": found.present & is_unknown}
    return {f"miou_{part}": float(found.iou[chosen].mean()) if chosen.any() else None for part, chosen in parts.items()}


def image_records(names: Sequence[str], images: Sequence[ImageScore]) -> list[dict[str, object]]:
    """A line per image: mIoU over its own classes and pixel accuracy (None where every pixel is ignored)."""
    return [
        {
            "name": name,
            "miou_present": own.miou if own.pixels else None,
            "pixel_accuracy": own.pixel_accuracy if own.pixels else None,
            "pixels": own.pixels,
        }
        for name, own in zip(names, images, strict=True)
    ]


def describe_semantic(result: SemanticScores, names: Sequence[str]) -> dict[str, object]:
    """JSON-ready scores of saved semantic predictions."""
    images = image_records(result.names, result.images)
    for record, outline in zip(images, result.outlines, strict=True):
        record["boundary_f"] = outline
    return {
        **describe_scores(result.scores, names),
        "boundary_f": result.boundary_f,
        "extra_predictions": result.extra,
        "per_image": images,
    }


def describe_tracking(scores: TrackingScores) -> dict[str, object]:
    """JSON-ready J and F."""
    return {
        "j_and_f": scores.j_and_f,
        "j": scores.j._asdict(),
        "f": scores.f._asdict(),
        "objects": [
            {
                "sequence": track.sequence,
                "object": track.object,
                "j": float(track.j.mean()),
                "f": float(track.f.mean()),
                "per_frame": {
                    name: [round(float(j), 6), round(float(f), 6)]
                    for name, j, f in zip(track.frames, track.j, track.f, strict=True)
                },
            }
            for track in scores.tracks
        ],
    }


def describe_tracking_report(report: TrackingReport) -> dict[str, object]:
    """JSON-ready scores of saved tracks; ``rules`` by sequence where they differ."""
    rules = set(report.rules.values())
    return {
        "rules": rules.pop() if len(rules) == 1 else report.rules,
        "late_objects": report.late,
        "unscored_objects": list(report.unscored),
        "extra_frames": report.extra_frames,
        "extra_sequences": list(report.extra_sequences),
        **describe_tracking(report.scores),
    }


def write_json(path: Path, record: Mapping[str, object]) -> None:
    """Write a record; the file appears whole or not at all."""
    write_atomically(path, (json.dumps(record, indent=2) + "\n").encode())
