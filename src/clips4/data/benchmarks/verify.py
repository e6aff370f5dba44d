"""Checks that a copy of a set is complete and follows its conventions: `clips4 doctor --data DIR --dataset NAME`."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from clips4.data.benchmarks.bsds import SPLITS as BSDS_SPLITS
from clips4.data.benchmarks.bsds import load_bsds
from clips4.data.benchmarks.davis import SPLITS as DAVIS_SPLITS
from clips4.data.benchmarks.davis import load_davis
from clips4.data.benchmarks.registry import SEMANTIC
from clips4.data.benchmarks.spec import SetSpec
from clips4.data.label_maps import ignore_value
from clips4.data.masks import Rules, find_objects, read_mask
from clips4.data.segmentation_dataset import LabeledFolder, as_displayed
from clips4.errors import UserError
from clips4.utils.image_file import image_size
from clips4.utils.progress import ProgressReporter, counted
from clips4.utils.text import plural


@dataclass
class Check:
    """The result of checking a copy.

    Attributes:
        dataset, split: name of the set and its split.
        count: labeled images (or sequences) found.
        expected: the published number.
        problems: one line each; none if the copy is correct.
        notes: one line each, of facts that are not mistakes.
    """

    dataset: str
    split: str
    count: int = 0
    expected: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def checkable() -> list[str]:
    """Names that ``check_set`` takes."""
    return [*SEMANTIC, *DAVIS_SPLITS, "bsds500"]


def check_set(name: str, root: Path, split: str | None = None, progress: ProgressReporter | None = None) -> Check:
    """Check every file of a split: counts, sizes, value ranges, missing files, a wrong label convention.

    Raises:
        UserError: there is no set or split of that name.
    """
    if name not in checkable():
        raise UserError(f"data set {name!r}: give one of {', '.join(checkable())}")
    published = SEMANTIC[name].splits if name in SEMANTIC else DAVIS_SPLITS.get(name, BSDS_SPLITS)
    split = split or next(iter(published))
    if split not in published:
        raise UserError(f"{name}: no split {split!r}; give one of {', '.join(published)}")
    check = Check(name, split, expected=published[split])
    try:
        if name in SEMANTIC:
            _check_semantic(check, SEMANTIC[name], SEMANTIC[name].load(root, split), progress)
        elif name in DAVIS_SPLITS:
            _check_davis(check, root, progress)
        else:
            _check_bsds(check, root, progress)
    except UserError as error:
        check.problems.append(str(error))
        return check
    if check.count != check.expected:
        check.problems.append(f"{check.count} labeled, {check.expected} were published; some are missing, or too many")
    return check


def _check_semantic(check: Check, spec: SetSpec, dataset: LabeledFolder, progress: ProgressReporter | None) -> None:
    check.count = len(dataset)
    wrong_values: Counter[int] = Counter()
    wrong_sizes, unreadable, seen = [], [], np.zeros(len(dataset.classes), bool)
    files = zip(dataset.images, dataset.masks, strict=True)
    for image, mask in counted(progress, "checking", files, len(dataset)):
        try:
            size = image_size(image, str(image))[::-1]
            values = as_displayed(dataset.read(mask), image)
        except UserError as error:
            unreadable.append(str(error))
            continue
        if values.shape != size:
            wrong_sizes.append(f"{mask} is {values.shape[1]} x {values.shape[0]}, its image {size[1]} x {size[0]}")
        for value in np.unique(values).tolist():
            label = int(dataset.table[value]) if 0 <= value < len(dataset.table) else len(dataset.classes)
            if label < len(dataset.classes):
                seen[label] = True
            elif label != ignore_value(len(dataset.classes)):
                wrong_values[value] += 1
    if unreadable:
        check.problems.append(f"{plural(len(unreadable), 'file')} cannot be read, the first: {unreadable[0]}")
    if wrong_sizes:
        check.problems.append(f"{len(wrong_sizes)} label maps differ in size from their images: {wrong_sizes[0]}")
    if wrong_values:
        listed = ", ".join(f"{value} (in {count})" for value, count in sorted(wrong_values.items())[:8])
        check.problems.append(f"label values that {spec.name} does not have: {listed}; expected: {spec.convention}")
    if absent := [name for name, there in zip(dataset.classes.names, seen, strict=True) if not there]:
        few = ", ".join(absent[:8]) + (", ..." if len(absent) > 8 else "")
        check.notes.append(f"{len(absent)} of {len(seen)} classes occur nowhere: {few}")


def _check_davis(check: Check, root: Path, progress: ProgressReporter | None) -> None:
    sequences = load_davis(root, check.dataset, check.split)
    check.count = len(sequences)
    for sequence in counted(progress, "checking", sequences):
        size = image_size(sequence.frames[0], str(sequence.frames[0]))[::-1]
        rules: Rules = "davis16" if check.dataset == "davis16" else "davis17"
        objects = find_objects(sequence.masks, rules).first
        if read_mask(sequence.masks[0], rules).shape != size:
            check.problems.append(f"{sequence.masks[0]}: has another size than its frame")
        if 0 not in objects.values():
            check.problems.append(
                f"{sequence.masks[0]}: no object in the first frame; copy the masks of {check.dataset} again"
            )
        elif max(objects) > 20:
            check.problems.append(
                f"{sequence.masks[0]}: value {max(objects)}; DAVIS-2017 numbers its few objects 1, 2, ..."
            )
        if late := [number for number, index in objects.items() if index]:
            check.notes.append(
                f"{sequence.name}: {plural(len(late), 'object')} not in the first frame (object {late[0]})"
            )


def _check_bsds(check: Check, root: Path, progress: ProgressReporter | None) -> None:
    dataset = load_bsds(root, check.split)
    check.count = len(dataset)
    for photograph in counted(progress, "checking", dataset, len(dataset)):
        if any(truth.shape != photograph.image.shape[:2] for truth in photograph.truths):
            check.problems.append(f"{photograph.path}: a segmentation has another size than the photograph")


def describe_check(check: Check) -> str:
    """The check as text."""
    head = f"{check.dataset} {check.split}: {check.count} labeled, {check.expected} published"
    lines = [head, *(f"note: {note}" for note in check.notes), *(f"problem: {text}" for text in check.problems)]
    return "\n".join(lines if check.problems else [*lines, "This copy is as published."])
