"""Where a teacher's files are: a local folder, or a model of the hub, downloaded once and pinned to a commit.

A hub id is ``owner/name``, or ``owner/name@revision`` with a branch, a tag or a commit. What is loaded is always a
commit: its 40 digits are part of the teacher's name afterwards, so that a run finds the same weights again. Only
safetensors are fetched. Files go to the hub library's own cache (``HF_HOME``), where a second use finds them, offline
too.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clips4.errors import UserError
from clips4.utils.hub import NoSuchFileError, Repository, is_hub_id

CONFIG, WEIGHTS, WEIGHT_INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PREPROCESSING = "preprocessor_config.json"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")


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
    return Path(name).expanduser().is_dir() or _looks_local(name) or is_hub_id(name)


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


def _from_hub(name: str, revision: str) -> ModelFiles:
    otherwise = "run it once with a network, or give the path of a folder that save_pretrained wrote"
    repository = Repository(name, "teacher", otherwise)
    try:
        commit = repository.commit(revision, CONFIG)
    except NoSuchFileError:
        raise UserError(f"teacher {name}: has no {CONFIG}, so it is no model that transformers saved")
    pinned = f"{name}@{commit}"
    config = repository.fetch(commit, CONFIG)
    if config is None:
        raise UserError(f"teacher {name}: has no {CONFIG}, so it is no model that transformers saved")
    if repository.fetch(commit, WEIGHTS) is None:
        index = repository.fetch(commit, WEIGHT_INDEX)
        if index is None:
            raise UserError(f"teacher {name}: {_no_safetensors()}")
        for shard in _shards(index, pinned):
            if repository.fetch(commit, shard) is None:
                raise UserError(f"teacher {pinned}: the hub has no {shard}, though the model's index lists it")
    for file in (*_TOKENIZER_FILES, PREPROCESSING):
        repository.fetch(commit, file)
    return ModelFiles(pinned, config.parent, commit, _read_json(config))
