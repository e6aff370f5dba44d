"""From the results of the steps to a table, as JSON, Markdown and a page (``assets/pages/reproduce.html.j2``)."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from clips4.evaluation.ablation import mean_and_deviation
from clips4.evaluation.protocols import unknown_classes
from clips4.evaluation.record import provenance
from clips4.evaluation.reproduce.plan import Check, Plan, Step
from clips4.evaluation.reproduce.published import Figures
from clips4.evaluation.reproduce.tables import Row, Scoring, Source, Training
from clips4.models.teachers.base import teacher_names
from clips4.outputs.page import page_image, render_page
from clips4.outputs.tables import markdown, percent
from clips4.utils.images import load_rgb

_FIGURE_SIDE = 990  # pixels, of a figure on the page
Records = Mapping[tuple[Check | Training | Scoring, int], Mapping[str, Any]]  # by work and seed
Results = Sequence[tuple[Step, Mapping[str, Any]]]


def gather(plan: Plan, results: Results, published: Figures) -> dict[str, Any]:
    """The record of a table: everything that its page and its Markdown show.

    Args:
        plan: of the table.
        results: steps and what each left.
        published: figures to show beside ours.
    """
    records: Records = {(step.work, step.seed): found["result"] for step, found in results}
    table = plan.table
    return {
        "table": table.name,
        "title": table.title,
        "about": table.about,
        "stand_in": plan.stand_in,
        "partial": plan.partial,
        "preset": plan.preset,
        "teacher": plan.config().teacher.name,
        "overrides": list(plan.overrides),
        "protocol": plan.protocol,
        "seeds": list(plan.seeds),
        "columns": dict(table.columns),
        "rows": [_row(row, plan, records, published) for row in table.rows],
        "figures": [
            {"title": _caption(scoring, seed, plan), "seed": seed, "file": records[scoring, seed]["figure"]}
            for scoring in table.figures
            for seed in plan.seeds
        ],
        "sets": [
            {"dataset": step.work.dataset, "split": step.work.split, **found["result"]}
            for step, found in results
            if isinstance(step.work, Check)
        ],
        "steps": [{"name": step.name, "seconds": found["seconds"]} for step, found in results],
        **provenance(),
    }


def _caption(scoring: Scoring, seed: int, plan: Plan) -> str:
    alone = scoring.training is not None and scoring.training.overrides
    title = "Without alignment (L_t alone)" if alone else "With alignment"
    return f"{title}, seed {seed}" if len(plan.seeds) > 1 else title


def _row(row: Row, plan: Plan, records: Records, published: Figures) -> dict[str, Any]:
    values = {}
    for column in plan.table.columns:
        by_seed = []
        for seed in plan.seeds if any(source.scoring.training for source in row.sources) else (0,):
            parts = [_value(source, records[source.scoring, seed], column) for source in row.sources]
            by_seed.append(mean(present) if len(present := [x for x in parts if x is not None]) == len(parts) else None)
        values[column] = mean_and_deviation(by_seed)
    own = published.get(row.key)
    return {
        "key": row.key,
        "title": row.title,
        "values": values,
        "published": dict(own.values) if own else {},
        "source": own.source if own else None,
    }


def _value(source: Source, record: Mapping[str, Any], column: str) -> float | None:
    """The score of one row of a record, in [0, 1]; None where it has none."""
    row = next(each for each in record["rows"] if each["row"] == source.row)
    if column in ("j_mean", "f_mean"):
        return row[column[0]]["mean"]
    if column in ("miou_known", "miou_unknown") and column not in row:
        return _part(source, row["per_class"], column == "miou_unknown")
    return row[column]


def _part(source: Source, classes: Sequence[Mapping[str, Any]], of_unknown: bool) -> float | None:
    """mIoU of the known or unknown classes of a fold that the truth has, from the scores of all classes."""
    assert source.fold is not None
    unknown = unknown_classes(source.scoring.choice.dataset, source.fold)
    scores = [each["iou"] for each in classes if each["in_truth"] and (each["name"] in unknown) == of_unknown]
    return mean(scores) if scores else None


def to_markdown(record: Mapping[str, Any]) -> str:
    """The table; published figures have columns of their own, and their sources stand below."""
    columns: dict[str, str] = {}
    shown = _has_published(record)
    for key, heading in record["columns"].items():
        columns[key] = heading
        if shown:
            columns[f"published {key}"] = f"{heading}, published"
    rows = {
        row["title"]: {
            **row["values"],
            **{f"published {key}": f"{value:.2f}" for key, value in row["published"].items()},
        }
        for row in record["rows"]
    }
    lines = [f"# {record['title']}", "", *notes(record), ""]
    lines += [markdown(rows, columns)] if rows else []
    lines += [f"![{figure['title']}]({figure['file']})" for figure in record["figures"]]
    sources = sorted({f"Published: {row['source']} ({row['title']})." for row in record["rows"] if row["source"]})
    return "\n".join([*lines, *(["", *sources] if sources else [])]) + "\n"


def _has_published(record: Mapping[str, Any]) -> bool:
    return any(row["published"] for row in record["rows"])


def notes(record: Mapping[str, Any]) -> list[str]:
    """Sentences that belong to the figures wherever they are shown."""
    found = [record["about"]] if record["about"] else []
    if record["stand_in"]:
        found.append("STAND-INS: these are not the sets of the paper; the figures show that the steps work, no more.")
    if record.get("teacher") in teacher_names():
        rows = any(row["title"].startswith("MaskCLIP") for row in record["rows"])
        alone = " Rows called MaskCLIP are this teacher alone, by text and refined." if rows else ""
        found.append(f'TEACHER "{record["teacher"]}": the built-in stand-in for CLIP.{alone}')
    elif "teacher" in record:
        found.append(f"Teacher {record['teacher']}.")
    short = [each for each in record["sets"] if each["images"] != each["published"]]
    found += [
        f"PARTIAL: {each['dataset']} {each['split']} has {each['images']} of {each['published']} images."
        for each in short
    ]
    seeds = ", ".join(map(str, record["seeds"]))
    spread = "; mean ± standard deviation" if len(record["seeds"]) > 1 else ""
    unit = "Percent. " if record["rows"] else ""
    found.append(f"{unit}Protocol {record['protocol']}, preset {record['preset']}, seeds {seeds}{spread}.")
    if record["overrides"]:
        found.append(f"Settings other than the preset's: {', '.join(record['overrides'])}.")
    return found


def render(plan: Plan, record: Mapping[str, Any]) -> str:
    """The page as HTML; it loads nothing from elsewhere."""
    return render_page(
        "reproduce",
        record=record,
        notes=notes(record),
        published=_has_published(record),
        score=percent,
        hours=sum(step["seconds"] for step in record["steps"]) / 3600,
        figures=[
            (figure["title"], page_image(load_rgb(plan.out / figure["file"]), _FIGURE_SIDE))
            for figure in record["figures"]
        ],
    )
