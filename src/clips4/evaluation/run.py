"""`clips4 evaluate`: score a run on a set by a protocol; the record holds everything that the scores depend on."""

from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clips4.config import Config
from clips4.data.benchmarks.registry import semantic_spec
from clips4.data.class_names import ClassList, load_classes
from clips4.data.image_folder import find_images
from clips4.data.segmentation_dataset import LabeledFolder
from clips4.errors import UserError
from clips4.evaluation.metrics.confusion import SetScores
from clips4.evaluation.open_vocabulary import classify, cosines, evaluate_language
from clips4.evaluation.protocols import Protocol, class_file_hash, language_protocol, unknown_classes
from clips4.evaluation.queries import foreground, prototype_query, text_query
from clips4.evaluation.record import describe_scores, image_records, provenance
from clips4.evaluation.report.class_pixels import pixels_by_class
from clips4.evaluation.report.plots import plot_confusion, plot_embedding, plot_worst_images, write_plots
from clips4.evaluation.unsupervised.clusters import ClusterRecipe, score_clusters
from clips4.evaluation.unsupervised.knn import RetrievalRecipe, score_retrieval
from clips4.evaluation.unsupervised.linear_probe import LinearProbeRecipe, score_linear_probe
from clips4.inference.classifier import Query, ZeroShotClassifier
from clips4.inference.encoding.features import load_features
from clips4.inference.encoding.tta import Edges, InferenceOptions
from clips4.inference.refine.maskclip import Refinement
from clips4.inference.segmenter import Segmenter
from clips4.method.prototypes import BANK_NEAREST
from clips4.models.calibrated_teacher import calibrated
from clips4.models.checkpoint import load_checkpoint
from clips4.models.teachers.base import Teacher, load_teacher
from clips4.models.teachers.maps.feature_cache import TeacherMaps
from clips4.models.teachers.text.prompts import load_templates
from clips4.models.teachers.text.text_cache import cached_class_vectors
from clips4.regions.cache import RegionCache
from clips4.training.prototype_fitting import with_bank_of
from clips4.utils.devices import pick_device
from clips4.utils.extras import install_command
from clips4.utils.images import RGB
from clips4.utils.progress import ProgressReporter

Record = dict[str, Any]
TASKS = ("clusters", "knn", "linear-probe")  # of evaluate_unsupervised


def about_run(run: Path) -> Record:
    """Which checkpoint is scored, and how it was trained."""
    checkpoint = load_checkpoint(run)
    return {
        "run": str(checkpoint.path),
        "step": checkpoint.step,
        "seed": checkpoint.config.train.seed,
        "config": checkpoint.config.model_dump(mode="json"),
        "trained_with": checkpoint.card["versions"],
    }


def set_rows(name: str, found: SetScores, names: tuple[str, ...], unknown: frozenset[str]) -> Record:
    """JSON-ready scores of one row: in all, per class and per image."""
    record = {"row": name, **describe_scores(found.scores, names, unknown)}
    if found.matching is not None:
        record["matching"] = found.matching.tolist()
    return {**record, "per_image": image_records(found.names, found.images)}


def evaluate_by_language(
    run: Path | None,
    teacher_name: str | None,
    dataset_name: str,
    root: Path,
    split: str | None,
    protocol_name: str,
    fold: int | None,
    class_file: str | None,
    images: Path | Sequence[Path] | None,
    report: Path | None,
    device: str,
    progress: ProgressReporter,
    refinement: Refinement = Refinement(),  # noqa: B008  # frozen
    settings: Config | None = None,
    refine: Edges | None = None,
) -> Record:
    """Rows "student by text", "student by prototypes", and the same of a teacher alone if one is named.

    Args:
        run: a run, or None for a teacher alone.
        teacher_name: the teacher to score too; None for none, "run" for that of the run.
        dataset_name, root, split: the labeled set.
        protocol_name: one of ``protocols.PROTOCOLS``.
        fold: of unknown classes; the run must not have been trained with their names.
        class_file: other synonyms for the classes of the set.
        images: unlabeled, to find prototypes of class names that are new to the run in; the images of the set by
            default.
        report: folder for plots; None for none.
        device: "auto", "cpu", "cuda" or "mps".
        progress: advances once an image.
        refinement: of the teacher, in one more row, "teacher by text, refined".
        refine: of predictions, in one more row each of the student and of the teacher, which it joins with
            ``refinement``.
        settings: of a teacher alone: its dense attention, templates and size of images; of a run they are its own.

    Raises:
        UserError: arguments that do not fit together.
    """
    refined = refinement != Refinement()
    if refined and teacher_name is None:
        raise UserError("--key-smoothing, --prompt-denoising and --affinity refine a teacher; name it with --teacher")
    if report is not None:
        if find_spec("sklearn") is None:
            raise UserError(f"--report draws a t-SNE, which needs scikit-learn: {install_command('scikit-learn')}")
        write_plots(report, {})  # a folder that cannot be used is reported before the hours of scoring
    if run is None and teacher_name in (None, "run"):
        raise UserError("give a run, or --teacher NAME for a teacher alone")
    config = load_checkpoint(run).config if run else settings or Config()
    options = InferenceOptions(refine=refine)
    protocol = language_protocol(protocol_name, dataset_name, config.teacher.templates)
    if refine in ("pamr", "regions") and protocol.background is not None:
        raise UserError(f"--refine {refine}: {dataset_name} has a background class, where only lposs is scored")
    classes = load_classes(class_file or protocol.class_file)
    dataset = semantic_spec(dataset_name).load(root, split, classes)
    unknown = unknown_classes(dataset_name, fold) if fold is not None else frozenset()
    student = Segmenter.load(run, device, use="student") if run else None
    if student is not None and (leaked := sorted(unknown & set(student.names))):
        raise UserError(
            f"{run}: was trained with the name {leaked[0]!r}, which fold {fold} keeps unknown; train without it"
        )
    name = config.teacher.name if teacher_name in (None, "run") else str(teacher_name)
    of_run = student.prototypes if student is not None and name == config.teacher.name else None
    space = of_run.space if of_run is not None else None
    raw = load_teacher(config.teacher.model_copy(update={"name": name})).to(pick_device(device))
    teacher = calibrated(raw, space)
    text = text_query(teacher, classes, protocol)
    models = {"student": student} if student is not None else {}
    if teacher_name is not None:
        models["teacher"] = Segmenter.from_teacher(name, config, device, space=space)
    queries = {who: {"text": text} for who in models}
    if student is not None and student.prototypes is not None:
        others = list(models)
        if student.prototypes.fitted is not None:
            # as users query the run: prototypes fitted to the student, new names by the bank of the run, or by images
            searched = (
                _with_bank(student, teacher, classes, find_images(images), config, progress) if images else student
            )
            found = searched.query(classes)
            unnamed = Query(found.vectors, found.owner, grouped=found.grouped)
            queries["student"]["prototypes"] = foreground(unnamed, protocol)
            others.remove("student")
        if others:
            paths = find_images(images) if images else list(dataset.images)
            found = prototype_query(student, teacher, classes, paths, protocol, config, pick_device(device), progress)
            for who in others:
                queries[who]["prototypes"] = found
    rows: list[Record] = []
    plots: dict[str, bytes] = {}
    if refine is not None and student is not None:
        models["student, refined"] = student.with_refinement(refine)
        queries["student, refined"] = queries["student"]
    if teacher_name is not None and (refined or refine is not None):
        models["teacher, refined"] = Segmenter.from_teacher(name, config, device, refinement, options, space)
        queries["teacher, refined"] = {"text": text}
    for who, segmenter in models.items():
        scored = evaluate_language(segmenter, dataset, queries[who], protocol, progress)
        model, _, mark = who.partition(", ")
        titles = {how: f"{model} by {how}{mark and ', '}{mark}" for how in scored}
        rows += [set_rows(titles[how], each, dataset.classes.names, unknown) for how, each in scored.items()]
        if report is not None and segmenter is (student or segmenter):
            how = "prototypes" if "prototypes" in scored else "text"
            title = f"{dataset_name}, {who} by {how}, {protocol.id}"
            plots |= _plots_of_row(segmenter, dataset, queries[who][how], scored[how], protocol, title)
    if report is not None and student is not None and len(text.vectors) == len(classes):
        alone = models.get("teacher") or Segmenter.from_teacher(name, config, device, space=space)
        of_teacher, of_student, labels, chosen = pixels_by_class(alone, student, dataset)
        names = [dataset.classes.names[index] for index in chosen]
        plots["embedding.png"] = plot_embedding(text.vectors[chosen], of_teacher, of_student, labels, names)
    if report is not None:
        write_plots(report, plots)
    return {
        "task": "language",
        "dataset": dataset_name,
        "split": split or semantic_spec(dataset_name).default_split,
        "images": len(dataset),
        "protocol": protocol.describe(),
        "classes_hash": class_file_hash(classes),
        "fold": fold,
        "unknown_classes": sorted(unknown),
        "teacher": name,
        "refinement": asdict(refinement) if refined else None,
        **({"refine": refine} if refine else {}),
        **(about_run(run) if run else {}),
        **provenance(),
        "rows": rows,
    }


def _with_bank(
    student: Segmenter,
    teacher: Teacher,
    classes: ClassList,
    images: Sequence[Path],
    config: Config,
    progress: ProgressReporter,
) -> ZeroShotClassifier:
    """A classifier that finds the prototypes of new names in all segments of images, not in the run's bank."""
    assert student.prototypes is not None
    new = [index for index, name in enumerate(classes.names) if name not in student.names]
    prototypes = student.prototypes
    if new:
        names = ClassList(tuple(classes.names[i] for i in new), tuple(classes.aliases[i] for i in new))
        text = cached_class_vectors(teacher, names, load_templates(config.teacher.templates))
        maps, regions = TeacherMaps(teacher, student.device), RegionCache(config.regions)
        prototypes = with_bank_of(
            prototypes, text, BANK_NEAREST, images, lambda rgb: student.embed(rgb), config, regions, maps, progress
        )
    return ZeroShotClassifier(config.teacher, prototypes, teacher)


def _plots_of_row(
    segmenter: Segmenter, dataset: LabeledFolder, query: Query, scored: SetScores, protocol: Protocol, title: str
) -> dict[str, bytes]:
    """The confusion matrix and the ten worst images of one row."""

    def predict(image: RGB, size: tuple[int, ...]) -> NDArray[np.integer]:
        logits = cosines(segmenter, image, query.vectors, protocol)
        return classify(logits, query.owner, size, protocol.background, grouped=query.grouped).cpu().numpy()

    confusion = plot_confusion(scored.confusion, dataset.classes.names, title)
    return {"confusion.png": confusion, **plot_worst_images(dataset, scored.images, predict)}


def evaluate_unsupervised(
    run: Path | None,
    kinds: list[str],
    tasks: list[str],
    dataset_name: str,
    root: Path,
    split: str | None,
    labeled_split: str,
    side: int,
    clusters: ClusterRecipe,
    retrieval: RetrievalRecipe,
    linear_probe: LinearProbeRecipe,
    report: Path | None,
    device: str,
    progress: ProgressReporter,
) -> Record:
    """Rows by features and task: clusters (k-means and one Hungarian matching), knn (retrieval), linear-probe.

    Raises:
        UserError: an unknown task, set or kind of features.
    """
    spec = semantic_spec(dataset_name)
    dataset = spec.load(root, split)
    if unknown := [task for task in tasks if task not in TASKS]:
        raise UserError(f"--tasks {unknown[0]!r}: choose from {','.join(TASKS)}")
    labeled = spec.load(root, labeled_split) if set(tasks) - {"clusters"} else None
    rows, plots = [], {}
    if report is not None:
        write_plots(report, {})
    for kind in kinds:
        features = load_features(kind, run, side, device).embed
        for task in tasks:
            if task == "clusters" or labeled is None:
                found = score_clusters(features, dataset, clusters, progress)
            elif task == "knn":
                found = score_retrieval(features, labeled, dataset, retrieval, progress)
            else:
                found = score_linear_probe(features, labeled, dataset, linear_probe, progress)
            rows.append(set_rows(f"{kind} by {task}", found, dataset.classes.names, frozenset()))
            if report is not None:
                title = f"{dataset_name}, {kind} by {task}"
                image = plot_confusion(found.confusion, dataset.classes.names, title)
                plots[f"confusion_{kind}_{task}.png"] = image
    if report is not None:
        write_plots(report, plots)
    return {
        "task": "unsupervised",
        "dataset": dataset_name,
        "split": split or spec.default_split,
        "labeled_split": labeled_split if labeled is not None else None,
        "images": len(dataset),
        "protocol": {
            "id": "clips4-unsupervised-v1",
            "side": side,
            "clusters": asdict(clusters),
            "knn": asdict(retrieval),
            "linear_probe": asdict(linear_probe),
            "matching": "one Hungarian matching over the set's confusion matrix",
            "upsampling": "cosines, votes or logits bilinear to the image's own size, then argmax",
            "truth": "never resized",
        },
        "classes_hash": class_file_hash(dataset.classes),
        **(about_run(run) if run else {}),
        **provenance(),
        "rows": rows,
    }
