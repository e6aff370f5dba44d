"""Runs on the hub: ``save_pretrained``, ``push_to_hub``, and the local folder of a hub id.

A published run is one checkpoint without what only resuming needs:

    card.json             configuration, class names, teacher, versions; no path of the machine it was trained on
    student.safetensors   weights of the student, class vectors
    README.md             the model card
    scores/*.json         records of ``clips4 evaluate``, where some lay in the run's folder

Nothing else is ever fetched, and no fetched file can run code.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clips4.errors import UserError
from clips4.models.checkpoint import CARD, STATE, WEIGHTS, load_checkpoint
from clips4.models.model_card import write_model_card
from clips4.utils.atomic_io import atomic_folder
from clips4.utils.cache import is_sealed
from clips4.utils.hub import NoSuchFileError, fetch_files, is_connection_error, is_hub_id
from clips4.utils.text import read_json

SCORES = "scores"


def fetch_run(name: str | Path, revision: str | None = None) -> Path:
    """The local folder of a run: the path itself, or of a hub id the files of a commit, downloaded once.

    Args:
        name: a path; or ``owner/name``, ``owner/name@revision``.
        revision: branch, tag or commit; not together with ``@``.

    Raises:
        UserError: the hub has no such run or no such revision of it, access is not granted, or it is unreachable and
            the run is not in its cache. A path that does not exist is returned unchanged.
    """
    path = Path(name).expanduser()
    given = str(name)
    # where a folder runs exists, runs/pets is a mistyped path and no hub id
    if path.exists() or not is_hub_id(given) or Path(given.partition("/")[0]).is_dir():
        return path
    if revision is not None:
        if "@" in given:
            raise UserError(f"run {given}: give the revision after @ or as revision={revision!r}, not both")
        given = f"{given}@{revision}"
    advice = "run it once with a network, or give the path of a run's folder"
    try:
        return fetch_files(given, "run", advice, (CARD, WEIGHTS)).folder
    except NoSuchFileError as error:
        raise UserError(f"{error}, so it is no run that clips4 published")


def save_pretrained(run: str | Path, folder: str | Path, repository: str | None = None) -> Path:
    """Write a run as it is published: a folder that ``Segmenter.load`` takes and ``push_to_hub`` uploads.

    Args:
        run: a run's folder; its newest whole checkpoint is taken.
        folder: to be written; it must not exist, or be empty, or hold what this function wrote before.
        repository: ``owner/name`` for the model card's examples.

    Returns:
        The folder.

    Raises:
        UserError: no checkpoint there, or other files in the folder.

    Example:
        >>> folder = save_pretrained("runs/pets", "published")
        >>> sorted(path.name for path in folder.iterdir())
        ['README.md', 'card.json', 'student.safetensors']
    """
    run, folder = Path(run), Path(folder)
    checkpoint = load_checkpoint(run)
    if folder.resolve() in (run.resolve(), checkpoint.path.resolve()):
        raise UserError(f"{folder}: is the run itself; give another folder")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / CARD).is_file()):
        raise UserError(f"{folder}: holds other files; give a new folder")
    scores = dict(_scores(run))
    card = _public_card(checkpoint.card)
    with atomic_folder(folder) as beside:
        (beside / SCORES).mkdir()
        shutil.copyfile(checkpoint.path / WEIGHTS, beside / WEIGHTS)
        (beside / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        for name, record in scores.items():
            (beside / SCORES / name).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        if not scores:
            (beside / SCORES).rmdir()
        write_model_card(beside / "README.md", card, scores, repository, _images(run))
    return folder


def push_to_hub(run: str | Path, repository: str, private: bool = True, token: str | None = None) -> str:
    """Publish a run: create the repository where it is missing and upload what ``save_pretrained`` writes.

    Args:
        run: a run's folder.
        repository: ``owner/name``.
        private: of a repository that is new.
        token: the hub's; the one of ``hf auth login`` by default.

    Returns:
        The address of the commit.

    Raises:
        UserError: no such run, no right to write there, or the hub cannot be reached.

    Example:
        >>> push_to_hub("runs/pets", "owner/pets")  # doctest: +SKIP
    """
    import tempfile

    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    if not is_hub_id(repository) or "@" in repository:
        raise UserError(f"{repository!r}: give a repository as owner/name")
    with tempfile.TemporaryDirectory() as folder:
        whole = save_pretrained(run, Path(folder) / "run", repository)
        api = HfApi(token=token)
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            done = api.upload_folder(repo_id=repository, folder_path=whole, commit_message="Publish a run of clips4")
        except (LocalTokenNotFoundError, HFValidationError) as error:
            raise UserError(f"{repository}: {_first_line(error)}; log in with 'hf auth login' and check the name")
        except HfHubHTTPError as error:
            status = getattr(error.response, "status_code", None)
            raise UserError(
                f"{repository}: the hub refused ({status or type(error).__name__}); log in with 'hf auth login' as a "
                "user with write access"
            )
        except Exception as error:
            if not is_connection_error(error):
                raise
            raise UserError(f"{repository}: the hub cannot be reached ({_first_line(error)}); try again with a network")
    return str(done.commit_url)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _public_card(card: Mapping[str, Any]) -> dict[str, Any]:
    """The card without paths of this machine and without the digest of a file that is not published."""
    public = json.loads(json.dumps(card))
    public["files"] = {name: digest for name, digest in public.get("files", {}).items() if name != STATE}
    config = public["config"]
    for section, key in (("teacher", "name"), ("student", "weights"), ("regions", "edges")):
        config[section][key] = _without_folder(config[section][key])
    config["teacher"]["templates"] = _without_folder(config["teacher"]["templates"])
    return dict(public)


def _without_folder(name: str | None) -> str | None:
    """The last part of a local path; hub ids and names as they are."""
    if name is None or not (Path(name).is_absolute() or name.startswith((".", "~", "\\")) or Path(name).exists()):
        return name
    return Path(name).name


def _images(run: Path) -> int | None:
    """Number of training images, where the run's folder still has it.

    Raises:
        UserError: the file that has it was changed.
    """
    path = run / "prepared" / "pictures.json"
    if not path.exists():
        return None
    facts = read_json(path)
    if not isinstance(facts.get("pictures"), int) or not is_sealed(facts, ("key", "pictures", "skipped")):
        raise UserError(f"{path}: changed after it was written; remove it, or resume the run, which writes it again")
    return int(facts["pictures"])


def _scores(run: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Records of ``clips4 evaluate`` in a run's folder (RUN/*.json, RUN/scores/*.json), without paths."""
    for path in sorted([*run.glob("*.json"), *(run / SCORES).glob("*.json")]):
        try:
            record = read_json(path)
        except UserError:
            continue
        if {"protocol", "dataset", "rows"} <= record.keys():
            yield path.name, {key: value for key, value in record.items() if key not in ("command", "run", "per_image")}
