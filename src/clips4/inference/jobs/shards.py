"""Segmenting shards into tar shards: ``clips4 segment RUN 'shards/{0000..0099}.tar' --out 's3://out/{shard}.tar'``.

The members of an output are those of WebDataset samples, ``KEY.png``, ``KEY.overlay.png``, ``KEY.json``, ``KEY.npz``,
in the order of the input's images; the first, which WebDataset ignores, holds the settings and the input. An output
appears when it is complete: a shard that has one is done, one without is done by the next start.
"""

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from clips4.data.image_folder import JobOutcome, SkippedImage, reason_to_skip
from clips4.data.shards.remote import address_of, check_writable, open_shard, shard_exists, shard_stamp, whole_shard
from clips4.data.shards.samples import Sample, read_shard
from clips4.errors import UserError
from clips4.inference.classifier import Query
from clips4.inference.jobs.load import Loaded
from clips4.inference.jobs.pipeline import process_images
from clips4.inference.result import Segmentation
from clips4.inference.segmenter import Segmenter
from clips4.outputs.encode import Kind, image_files
from clips4.utils.distributed import Share
from clips4.utils.images import RGB, decode_rgb
from clips4.utils.interrupts import deferred_interrupt
from clips4.utils.output_folder.names import refuse_overwriting
from clips4.utils.progress import ProgressReporter

PLACE = "{shard}"
KINDS: tuple[Kind, ...] = ("png", "overlay", "json", "npz")
_HEADER = "__clips4__"  # WebDataset ignores such names


class _StoppedError(Exception):
    """Ctrl-C came within a shard."""


class _UnreadableError(Exception):
    """A shard gave no image, only reasons to skip."""


def segment_shards(
    loaded: Loaded,
    query: Query,
    out: Path,
    kinds: Sequence[Kind],
    settings_hash: str,
    unknown: bool,
    force: bool,
    progress: ProgressReporter,
    share: Share = Share(),  # noqa: B008  # frozen
) -> JobOutcome:
    """Segment this process's share of the shards; memory holds a few images, whatever the size of a shard.

    Args:
        loaded: the segmenter and the shards.
        query: the class vectors.
        out: path of the outputs, in which ``{shard}`` stands for the name of a shard without ``.tar``.
        kinds: some of ``KINDS``.
        settings_hash: of all settings that the outputs depend on.
        unknown: whether pixels may be unknown.
        force: whether to redo what is done, and to replace outputs of other settings.
        progress: advances by shard.
        share: every n-th shard.

    Returns:
        What became of the shards; ``skipped`` lists images, and what is damaged in a shard.

    Raises:
        UserError: a kind that shards have not, two shards of one name, or an output that is not of these settings.
    """
    if others := [kind for kind in kinds if kind not in KINDS]:
        raise UserError(f"--save {others[0]}: not for shards; give some of {', '.join(KINDS)}")
    jobs = share.of(list(zip(loaded.images, shard_targets(loaded.images, out), strict=True)))
    headers = {shard: _header(shard, kinds, settings_hash) for shard, _ in jobs}
    done = {shard for shard, target in jobs if _is_done(target, headers[shard], force)}
    outcome = JobOutcome(kept=[shard for shard, _ in jobs if shard in done])
    progress.stage("segmenting shards", len(jobs) - len(done))
    with deferred_interrupt() as interrupted:
        for shard, target in jobs:
            if shard in done:
                continue
            files = segment_shard(loaded.segmenter, query, shard, kinds, unknown, outcome.skipped, interrupted)
            try:
                write_tar(target, headers[shard], files)
            except _StoppedError:
                outcome.interrupted = True
                break
            except _UnreadableError:
                pass  # without an output the next start tries it again, when it may be whole
            else:
                outcome.done.append(shard)
            progress.advance({})
    return outcome


def shard_targets(shards: Sequence[Path], out: Path) -> list[Path]:
    """Where the outputs of each shard go.

    Raises:
        UserError: ``out`` has no ``{shard}`` or does not end in .tar, two shards have one name, or one is overwritten.
    """
    if PLACE not in out.name or out.suffix.lower() != ".tar":
        raise UserError(f"--out {out}: shards are written to shards; give e.g. --out 'out/{PLACE}.tar'")
    out = Path(address_of(out))
    targets = [out.with_name(out.name.replace(PLACE, shard.stem)) for shard in shards]
    check_writable(targets[0])
    owners: dict[Path, Path] = {}
    for shard, target in zip(shards, targets, strict=True):
        if (other := owners.setdefault(target, shard)) != shard:
            raise UserError(f"{shard}: would have the same output as {other}; segment their folders one at a time")
    refuse_overwriting(shards, targets)  # addresses, too, which no link names
    return targets


def segment_shard(
    segmenter: Segmenter,
    query: Query,
    shard: Path,
    kinds: Sequence[Kind],
    unknown: bool,
    skipped: list[SkippedImage],
    interrupted: Callable[[], bool],
) -> Iterator[dict[str, bytes]]:
    """The files of each image of a shard, by member name; what cannot be read is added to ``skipped``.

    Raises:
        _StoppedError: it was interrupted.
        _UnreadableError: no image of it could be read.
    """
    address = address_of(shard)

    def predict(images: list[RGB]) -> Iterator[Segmentation]:
        return (segmenter.predict(encoded, query, unknown) for encoded in segmenter.encode_images(images, keep=False))

    def encode(sample: Sample, result: Segmentation) -> dict[str, bytes]:
        key = sample.name.removeprefix(f"{address}/").rpartition(".")[0]
        files = image_files(result, sample.name, key, kinds, result.embeddings() if "npz" in kinds else None)
        # _overlay.png would belong to another sample: a key ends at the first dot
        return {f"{key}.{name.removeprefix(key).lstrip('._')}": content for name, content in files.items()}

    steps = process_images(
        read_shard(address, skipped.append),
        lambda sample: decode_rgb(sample.data, sample.name),
        predict,
        encode,
        segmenter.batch,
        interrupted,
    )
    skipped_before, is_read = len(skipped), False
    for sample, future in steps:
        try:
            files = future.result()
        except Exception as error:
            skipped.append(SkippedImage(Path(sample.name), reason_to_skip(error)))
        else:
            is_read = True
            yield files or {}
    if interrupted():
        raise _StoppedError
    if not is_read and len(skipped) > skipped_before:
        raise _UnreadableError


def write_tar(target: Path, header: bytes, samples: Iterator[dict[str, bytes]]) -> None:
    """Write a shard, the same bytes for the same samples."""
    with whole_shard(target) as temporary, tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, {_HEADER: header})
        for files in samples:
            _add(tar, files)


def _add(tar: tarfile.TarFile, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


def _header(shard: Path, kinds: Sequence[Kind], settings_hash: str) -> bytes:
    """What an output depends on."""
    values = {"settings_hash": settings_hash, "kinds": list(kinds), "source": shard.name, "stamp": shard_stamp(shard)}
    return json.dumps(values).encode()


def _is_done(target: Path, header: bytes, force: bool) -> bool:
    """Whether an output exists with these settings.

    Raises:
        UserError: it was written by another program, or, without ``force``, with other settings or kinds.
    """
    if not shard_exists(target):
        return False
    found = None
    try:
        with open_shard(target) as (file, _), tarfile.open(fileobj=file, mode="r:") as tar:
            first = tar.next()
            member = tar.extractfile(first) if first is not None and first.name == _HEADER else None
            found = member.read() if member else None
    except (tarfile.TarError, OSError):
        pass
    if found is None:
        raise UserError(f"{address_of(target)}: exists, and clips4 did not write it; move it, or give another --out")
    if found != header and not force:
        raise UserError(
            f"{address_of(target)}: has outputs with other settings (model, classes, kinds, or another shard); give "
            "another --out, or --force to replace it"
        )
    return not force
