"""The page as a folder for any web server: the student runs in the visitor's browser, and nothing is sent anywhere.

    index.html, *.js, *.css   the page
    browser/                  the engine that runs the student
    runtime/                  ONNX Runtime for browsers, with its licenses
    model/student.onnx        the student; student-int8.onnx, if it was quantized, too
    model/run.json            classes, names and rules of the run
    model/vectors.f32         class vectors of the run, then its unknown prototypes (fitted, then those of training)
    model/names.f16           the vectors of the other names, 16 bits
    service_worker.js         keeps all that, so that the page opens without a network

A vector is what ``clips4 segment`` compares pixels with for the same name: a prototype of the run, the mean of the
segments that the name finds in the run's bank, or its text vector. With ``prototypes.per_class=nearest`` a name has
several.
"""

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clips4 import __version__
from clips4.data.class_names import ClassList
from clips4.errors import UserError
from clips4.inference.segmenter import Segmenter
from clips4.inference.unknown.name_suggestion import nouns, suggest_names
from clips4.models.checkpoint import Checkpoint, load_checkpoint
from clips4.models.class_set import class_vectors_digest
from clips4.models.onnx.export import checked_graph
from clips4.models.onnx.quantize import Agreement, quantize
from clips4.models.residual_student import ResidualStudent
from clips4.models.sliding_window import inference_size
from clips4.serve.page.files import browser_files, page_files
from clips4.serve.page.runtime import runtime_files
from clips4.utils.atomic_io import atomic_folder, lock_file

POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; media-src blob:; style-src 'self'; base-uri 'none'; form-action 'none'"
)
SUGGESTED = 3  # names of an unknown class
_FACTS, _WORKER = "model/run.json", "service_worker.js"
_AT_ONCE = 256  # names whose vectors are found together


@dataclass(frozen=True)
class PageReport:
    """What was written.

    Attributes:
        bytes: of the whole folder.
        page_bytes: without model and runtime.
        names: that can be typed.
        difference: the largest between the graph and torch.
        agreement: of int8 with float32; None without.
    """

    bytes: int
    page_bytes: int
    names: int
    difference: float
    agreement: Agreement | None


def export_page(
    run: Path,
    out: Path,
    runtime: Path | None = None,
    calibration: Sequence[Path] | None = None,
    vocabulary: Sequence[str] | None = None,
) -> PageReport:
    """Write the page of a run, which any web server can serve.

    Args:
        run: its folder.
        out: a new or empty folder, or an earlier page, which is replaced as a whole.
        runtime: a copy of the npm package onnxruntime-web; see ``runtime.runtime_files``.
        calibration: images for an int8 student beside the float32 one; see ``quantize``.
        vocabulary: names that can be typed beside the run's classes; the nouns that ship by default.

    Raises:
        UserError: no such run, other files in ``out``, no runtime, or a student that cannot be exported.
    """
    _check_target(out)
    checkpoint, segmenter = _load(run)
    files = {f"runtime/{name}": content for name, content in runtime_files(runtime).items()}
    graph, difference = checked_graph(checkpoint)
    students = {"float32": ("model/student.onnx", graph.SerializeToString())}
    agreement = None
    if calibration is not None:
        size, prototypes = inference_size(checkpoint.config.data), checkpoint.prototypes
        small, agreement = quantize(graph, calibration, size, prototypes)
        students["int8"] = ("model/student-int8.onnx", small.SerializeToString())
    files |= dict(students.values())
    networks = [{"name": name, "file": file, "bytes": len(content)} for name, (file, content) in students.items()]
    facts, vectors = _class_files(checkpoint, segmenter, nouns() if vocabulary is None else vocabulary)
    title = run.name if run.name else run.resolve().name
    files |= vectors | {_FACTS: json.dumps({"title": title, **facts, "networks": networks}).encode()}
    page = _page()
    files |= page
    files[_WORKER] = _service_worker(files, sorted(page))
    with lock_file(out), atomic_folder(out) as folder:
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
    sizes = {name: len(content) for name, content in files.items()}
    own = sum(size for name, size in sizes.items() if name.partition("/")[0] not in ("runtime", "model"))
    return PageReport(sum(sizes.values()), own, len(facts["names"]), difference, agreement)


def _check_target(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"--web {out}: is a file; give a folder")
    found = {each.name for each in out.iterdir()} if out.is_dir() else set()
    ours = {"model", "runtime", "browser", _WORKER, *page_files()} if (out / _FACTS).is_file() else set()
    if others := sorted(found - ours):
        raise UserError(f"--web {out}: holds other files ({others[0]}); give a new or empty folder")


def _load(run: Path) -> tuple[Checkpoint, Segmenter]:
    """The student of a run, or its teacher where ``clips4 segment`` uses it and it is the same network."""
    checkpoint = load_checkpoint(run)
    use = "student"
    if checkpoint.card.get("use") == "teacher":
        if isinstance(checkpoint.student, ResidualStudent):
            use, checkpoint.student.head_scale = "teacher", 0.0
            checkpoint = replace(checkpoint, prototypes=replace(checkpoint.prototypes, head_scale=0.0))
        else:
            warnings.warn(
                f"{run}: by its quality report this run is no better than its teacher, which 'clips4 segment' uses; "
                "the page holds the student",
                stacklevel=3,
            )
    return checkpoint, Segmenter.load(checkpoint.path, "cpu", use=use)  # type: ignore[arg-type]


def _class_files(
    checkpoint: Checkpoint, segmenter: Segmenter, vocabulary: Sequence[str]
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Facts of names and rules, and the files of their vectors."""
    run = checkpoint.prototypes
    known = segmenter.query()
    aliases = [alias for each in run.classes.aliases for alias in each]
    taken = {name.casefold() for name in run.names}
    others = list({name.casefold(): name for name in (*aliases, *vocabulary) if name.casefold() not in taken}.values())
    rows, sources, counts = [known.vectors[:0]], list(known.sources), known.owner.bincount().tolist()
    for start in range(0, len(others), _AT_ONCE):
        some = others[start : start + _AT_ONCE]
        found = segmenter.query(ClassList(tuple(some), tuple((name,) for name in some)))
        rows.append(found.vectors)
        sources += found.sources
        counts += found.owner.bincount().tolist()
    context, size = segmenter.context, inference_size(checkpoint.config.data)
    suggested = suggest_names(segmenter.classifier, run, SUGGESTED, vocabulary) if len(run.unknown) else []
    facts = {
        "version": __version__,
        "dims": known.vectors.shape[1],
        "longSide": size.long_side,
        "shortSide": size.short_side,
        "largestSide": size.largest,
        "classes": list(run.names),
        "names": [*run.names, *others],
        "sources": sources,
        **({"rows": counts} if known.grouped else {}),
        "exact": len(known.vectors),
        "digest": class_vectors_digest(run),
        "unknown": len(run.unknown),
        "suggested": [[each.name for each in names] for names in suggested],
        "rules": {
            "separatesUnknown": segmenter.classifier.separates_unknown,
            "margin": run.unknown_margin,
            **({"grouped": True} if known.grouped else {}),
            "context": {
                "weight": context.weight,
                "textTemperature": context.text_temperature,
                "pixelTemperature": context.pixel_temperature,
            },
        },
    }
    exact = torch.cat([known.vectors.float(), run.query_unknown.float(), run.unknown.float()])
    return facts, {
        "model/vectors.f32": exact.numpy().astype("<f4").tobytes(),
        "model/names.f16": torch.cat(rows).float().numpy().astype(np.float16).astype("<f2").tobytes(),
    }


def _page() -> dict[str, bytes]:
    """The page's files, its HTML with the policy and the engine that servers give otherwise."""
    files = page_files() | {f"browser/{name}": content for name, content in browser_files().items()}
    del files[f"browser/{_WORKER}"]
    html = files["index.html"].decode()
    for before, after in (
        ('<html lang="en">', '<html lang="en" data-engine="browser">'),
        (
            '<meta charset="utf-8">',
            f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        ),
    ):
        assert html.count(before) == 1, before
        html = html.replace(before, after)
    return files | {"index.html": html.encode()}


def _service_worker(files: dict[str, bytes], page: Sequence[str]) -> bytes:
    """The service worker with the version and the list of the page's files."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name} {hashlib.sha256(files[name]).hexdigest()}\n".encode())
    text = browser_files()[_WORKER].decode()
    for before, after in (
        ('const VERSION = "";', f'const VERSION = "{digest.hexdigest()[:16]}";'),
        ("const PAGE = [];", f"const PAGE = {json.dumps(['./', *page])};"),
    ):
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text.encode()
