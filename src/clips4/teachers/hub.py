"""Where a teacher's files are: a local folder, or a model of the hub, downloaded once and pinned to a commit.

A hub id is ``owner/name``, or ``owner/name@revision`` with a branch, a tag or a commit. What is loaded is always a
commit: its 40 digits are part of the teacher's name afterwards, so that a run finds the same weights again. Only
safetensors are fetched. Files go to the hub library's own cache (``HF_HOME``), where a second use finds them, offline
too.
"""

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clips4.errors import UserError

CONFIG, WEIGHTS, WEIGHT_INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PREPROCESSING = "preprocessor_config.json"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")
_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*(@[\w][\w./-]*)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model.

    Attributes:
        name: the folder's whole path, or ``owner/name@commit``.
        folder: where the files are.
        fingerprint: the commit, or a hash of a local folder's files; another model never has it.
        config: what ``config.json`` holds.
    """

    name: str
    folder: Path
    fingerprint: str
    config: dict[str, Any]

    def read_json(self, file: str) -> dict[str, Any]:
        """A JSON file of the folder; empty where it is missing.

        Raises:
            UserError: it is damaged.
        """
        return _read_json(self.folder / file) if (self.folder / file).is_file() else {}


def is_model_name(name: str) -> bool:
    """Whether this may be a folder or a hub id."""
    return Path(name).expanduser().is_dir() or _looks_local(name) or _HUB_ID.fullmatch(name) is not None


def find_model(name: str) -> ModelFiles:
    """The files of a local folder or of a hub id, downloaded where they are not in the cache.

    Raises:
        UserError: no such folder, model or revision; no safetensors; the hub out of reach and nothing cached.
    """
    folder = Path(name).expanduser()
    if folder.exists():
        return _local(name, folder)
    if _looks_local(name):
        raise UserError(f"teacher {name}: no such folder; give a saved model's folder or a hub id owner/name")
    repository, _, revision = name.partition("@")
    return _from_hub(repository, revision or "main")


def _looks_local(name: str) -> bool:
    return name.startswith((".", "/", "~", "\\")) or name.count("/") > (1 + name.partition("@")[2].count("/"))


def _local(name: str, folder: Path) -> ModelFiles:
    if not (folder / CONFIG).is_file():
        raise UserError(f"teacher {name}: no {CONFIG} there; give the folder that save_pretrained wrote, or a hub id")
    weights = [WEIGHTS] if (folder / WEIGHTS).is_file() else _shards(folder / WEIGHT_INDEX, name)
    if missing := [file for file in weights if not (folder / file).is_file()]:
        raise UserError(f"teacher {name}: {missing[0]} is missing; copy the whole folder again")
    digest = hashlib.sha256()
    for file in sorted({CONFIG, PREPROCESSING, *_TOKENIZER_FILES, *weights}):
        if (folder / file).is_file():
            with (folder / file).open("rb") as stream:
                digest.update(f"{file} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return ModelFiles(str(folder.resolve()), folder, digest.hexdigest()[:40], _read_json(folder / CONFIG))


def _shards(index: Path, name: str) -> list[str]:
    """Weight files that an index lists."""
    if not index.is_file():
        raise UserError(f"teacher {name}: {_no_safetensors()}")
    try:
        return sorted(set(_read_json(index)["weight_map"].values()))
    except (KeyError, AttributeError):
        raise UserError(f"{index}: lists no weights; copy or download it again")


def _no_safetensors() -> str:
    return (
        f"no {WEIGHTS} there, and pickled weights (.bin, .pt) are never loaded; take a revision or a model that has "
        "safetensors, or convert it"
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({type(error).__name__}); copy or download it again")
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no settings; copy or download it again")
    return values


# ------------------------------------------------------------------------------------------------------------ hub


def _from_hub(repository: str, revision: str) -> ModelFiles:
    commit = _commit(repository, revision)
    name = f"{repository}@{commit}"
    config = _fetch(repository, commit, CONFIG)
    if config is None:
        raise UserError(f"teacher {repository}: has no {CONFIG}, so it is no model that transformers saved")
    if _fetch(repository, commit, WEIGHTS) is None:
        index = _fetch(repository, commit, WEIGHT_INDEX)
        if index is None:
            raise UserError(f"teacher {repository}: {_no_safetensors()}")
        for shard in _shards(index, name):
            if _fetch(repository, commit, shard) is None:
                raise UserError(f"teacher {name}: the hub has no {shard}, though the model's index lists it")
    for file in (*_TOKENIZER_FILES, PREPROCESSING):
        _fetch(repository, commit, file)
    return ModelFiles(name, config.parent, commit, _read_json(config))


def _commit(repository: str, revision: str) -> str:
    """The commit that a revision is: as the hub says now or, where it cannot be reached, as it was when last asked."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    cached = try_to_load_from_cache(repository, CONFIG, revision=revision)
    last = Path(cached).parent.name if isinstance(cached, str) else None  # .../snapshots/COMMIT/config.json
    if last and last == revision:
        return last  # a commit never changes
    try:
        with _hub_errors(repository, revision):
            # asked once: the library's own way waits and tries again, for half a minute where there is no network
            get_hf_file_metadata(hf_hub_url(repository, CONFIG, revision=revision))
            with _bars_on_terminals_only():
                return Path(hf_hub_download(repository, CONFIG, revision=revision)).parent.name
    except EntryNotFoundError:
        raise UserError(f"teacher {repository}: has no {CONFIG}, so it is no model that transformers saved")
    except _Unreachable as error:
        if last:
            return last
        raise UserError(_unreachable(repository, f"nothing of it is cached ({error})"))


def _fetch(repository: str, commit: str, file: str) -> Path | None:
    """A file at a commit, from the cache or the hub; None where the repository has none of that name.

    The hub's library takes up a broken connection where it broke, some five times; then this file begins anew.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    cached = try_to_load_from_cache(repository, file, revision=commit)
    if cached is not None:
        return Path(cached) if isinstance(cached, str) else None  # the library remembers what is not there, too
    try:
        with _hub_errors(repository, commit), _bars_on_terminals_only():
            return Path(hf_hub_download(repository, file, revision=commit))
    except EntryNotFoundError:
        return None
    except _Unreachable as error:
        raise UserError(_unreachable(repository, f"{file} is not whole in its cache ({error})"))


class _Unreachable(Exception):
    """The hub does not answer, or no longer."""


@contextmanager
def _hub_errors(repository: str, revision: str) -> Iterator[None]:
    """The hub's errors as one line each.

    Raises:
        UserError: what the hub refuses.
        EntryNotFoundError: no such file there.
        _Unreachable: no answer.
    """
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError:
        raise UserError(
            f"teacher {repository}: access is granted on request; accept its terms on the hub, then 'hf auth login'"
        )
    except RevisionNotFoundError:
        raise UserError(
            f"teacher {repository}: no revision {revision!r} of it (any more); give another after @, or none"
        )
    except RepositoryNotFoundError:
        raise UserError(f"teacher {repository}: neither a folder here nor a model of the hub; look at its name again")
    except LocalEntryNotFoundError as error:
        raise _Unreachable(_reason(error))
    except EntryNotFoundError:
        raise
    except Exception as error:
        # what a broken connection raises depends on the HTTP library that the hub's own is built on
        of_http = type(error).__module__.startswith(("httpx", "httpcore", "requests", "urllib3", "huggingface_hub"))
        if not of_http and not isinstance(error, ConnectionError):
            raise
        raise _Unreachable(_reason(error))


@contextmanager
def _bars_on_terminals_only() -> Iterator[None]:
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    quiet = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if quiet:
        disable_progress_bars()
    try:
        yield
    finally:
        if quiet:
            enable_progress_bars()


def _reason(error: BaseException) -> str:
    """The innermost cause, in one line."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    if type(error).__name__ == "OfflineModeIsEnabled":
        return "HF_HUB_OFFLINE is set"
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _unreachable(repository: str, what: str) -> str:
    return (
        f"teacher {repository}: the hub cannot be reached and {what}; run it once with a network, or give the path of "
        "a folder that save_pretrained wrote"
    )
