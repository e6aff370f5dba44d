"""`clips4 reproduce`: all steps of a table, then its page, its Markdown and its JSON."""

from pathlib import Path

from clips4.evaluation.record import write_json
from clips4.evaluation.reproduce.page import gather, render, to_markdown
from clips4.evaluation.reproduce.plan import FIGURES, RUNS, STEPS, Plan
from clips4.evaluation.reproduce.published import read_published, template
from clips4.evaluation.reproduce.work import do_steps
from clips4.utils.atomic_io import lock_folder, write_atomically
from clips4.utils.output_folder.names import check_out_folder
from clips4.utils.output_folder.output import Output, check_command
from clips4.utils.progress import ProgressReporter

PUBLISHED = "published.yaml"


def reproduce(plan: Plan, published: Path | None, progress: ProgressReporter) -> str:
    """Make a table of the paper; what is finished is not done again.

    Writes ``OUT/TABLE.html``, ``.md`` and ``.json``, and below ``OUT`` the runs, the records of all steps and figures.
    ``OUT/TABLE-published.yaml`` is written empty where there is none, and read where ``published`` is not given.

    Args:
        plan: the table and how it is made.
        published: YAML with published figures, see ``published.read_published``.
        progress: reports every step.

    Returns:
        The table in Markdown.

    Raises:
        UserError: see ``work.do_steps`` and ``published.read_published``.
        Interrupted: Ctrl-C during a training, after saving.

    Example:
        >>> reproduce(Plan(find_table("voc"), Path("sets"), Path("runs/paper")), None, NoProgress())
    """
    name, out = plan.table.name, plan.out
    output = Output(out, "reproduce", [], "")
    check_out_folder(out)
    check_command(output)
    own = out / f"{name}-{PUBLISHED}"
    figures = read_published(published or own, plan.table) if published or own.is_file() else {}
    with lock_folder(out):
        ends = (".html", ".md", ".json", f"-{PUBLISHED}")
        output.record_own([*(f"{name}{end}" for end in ends), *(f"{folder}/" for folder in (STEPS, RUNS, FIGURES))])
        if not own.exists() and plan.table.rows:
            write_atomically(own, template(plan.table).encode())
        record = gather(plan, do_steps(plan, progress), figures)
        text = to_markdown(record)
        write_json(out / f"{name}.json", record)
        write_atomically(out / f"{name}.md", text.encode())
        write_atomically(out / f"{name}.html", render(plan, record).encode())
    return text
