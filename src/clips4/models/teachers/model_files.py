"""The files of a teacher: a local folder, or a model on the hub, downloaded once and pinned to a commit.

The 40 digits of the commit become part of the teacher's name, so that a run finds the same weights again. Weights are
only read from safetensors.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clips4.errors import UserError
from clips4.utils.hub import NoSuchFileError, fetch_files, is_hub_id, own_file, shard_names
from clips4.utils.text import read_json

CONFIG, WEIGHTS = "config.json", "model.safetensors"
PREPROCESSING = "preprocessor_config.json"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")
_NO_SAFETENSORS = (
    f"no {WEIGHTS} there, and pickled weights (.bin, .pt) are never loaded; take a revision or a model that has "
    "safetensors, or convert it"
)


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
        path = own_file(self.folder, file)
        return read_json(path) if path else {}


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
    advice = "run it once with a network, or give the path of a folder that save_pretrained wrote"
    try:
        files = fetch_files(name, "teacher", advice, (CONFIG, WEIGHTS), (*_TOKENIZER_FILES, PREPROCESSING))
    except NoSuchFileError as error:
        if error.file == CONFIG:
            raise UserError(f"{error}, so it is no model that transformers saved")
        raise UserError(f"teacher {name}: {_NO_SAFETENSORS}")
    return ModelFiles(files.name, files.folder, files.commit, read_json(files.folder / CONFIG))


def _looks_local(name: str) -> bool:
    return name.startswith((".", "/", "~", "\\")) or name.count("/") > (1 + name.partition("@")[2].count("/"))


def _local(name: str, folder: Path) -> ModelFiles:
    config, index = own_file(folder, CONFIG), own_file(folder, f"{WEIGHTS}.index.json")
    if config is None:
        raise UserError(f"teacher {name}: no {CONFIG} there; give the folder that save_pretrained wrote, or a hub id")
    if own_file(folder, WEIGHTS):
        weights = [WEIGHTS]
    elif index:
        weights = shard_names(index)
    else:
        raise UserError(f"teacher {name}: {_NO_SAFETENSORS}")
    if missing := [file for file in weights if own_file(folder, file) is None]:
        raise UserError(f"teacher {name}: {missing[0]} is missing; copy the whole folder again")
    digest = hashlib.sha256()
    for file in sorted({CONFIG, PREPROCESSING, *_TOKENIZER_FILES, *weights}):
        if path := own_file(folder, file):
            with path.open("rb") as stream:
                digest.update(f"{file} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return ModelFiles(str(folder.resolve()), folder, digest.hexdigest()[:40], read_json(config))
