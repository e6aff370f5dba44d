"""The files of a teacher: a local folder, or a model on the hub, downloaded once and pinned to a commit.

The 40 digits of the commit become part of the teacher's name, so that a run finds the same weights again. Weights are
only read from safetensors.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clips4.errors import UserError
from clips4.utils.hub import HubFiles, NoSuchFileError, fetch_files, is_hub_id, own_file, shard_names
from clips4.utils.text import read_json

CONFIG, WEIGHTS = "config.json", "model.safetensors"
OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
PREPROCESSING = "preprocessor_config.json"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model.

    Attributes:
        name: the folder's whole path, or ``owner/name@commit``.
        folder: where the files are.
        fingerprint: the commit, or a hash of a local folder's files; another model never has it.
        config: what ``config.json`` holds, or ``open_clip_config.json``.
        open_clip: whether the model is in open_clip's own format.
    """

    name: str
    folder: Path
    fingerprint: str
    config: dict[str, Any]
    open_clip: bool = False

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

    A model that transformers saved goes first; a ``config.json`` that names no ``model_type`` is another library's, and
    gives way to open_clip's.

    Raises:
        UserError: no such folder, model or revision; no safetensors; the hub out of reach and nothing cached.
    """
    folder = Path(name).expanduser()
    if folder.exists():
        return _local(name, folder)
    if _looks_local(name):
        raise UserError(f"teacher {name}: no such folder; give a saved model's folder or a hub id owner/name")
    try:
        files: HubFiles | None = _fetch(name, (CONFIG,))
    except NoSuchFileError:
        files = None
    if files is None or "model_type" not in read_json(files.folder / CONFIG):
        try:
            # config.json is optional here, so that the cache records its absence for use without a network
            return _download(_fetch(files.name if files else name, (OPEN_CLIP_CONFIG,), (CONFIG,)), True)
        except NoSuchFileError:
            if files is None:
                raise UserError(
                    f"teacher {name.partition('@')[0]}: has no {CONFIG} and no {OPEN_CLIP_CONFIG}, so it is no model "
                    "that transformers or open_clip saved"
                )
    return _download(files, False)


def _fetch(name: str, files: tuple[str, ...], optional: tuple[str, ...] = ()) -> HubFiles:
    advice = "run it once with a network, or give the path of a folder that save_pretrained wrote"
    return fetch_files(name, "teacher", advice, files, optional)


def _download(files: HubFiles, open_clip: bool) -> ModelFiles:
    """The model whose configuration is there, with its weights and what else it has."""
    config, weights = (OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS) if open_clip else (CONFIG, WEIGHTS)
    try:
        _fetch(files.name, (config, weights), (*_TOKENIZER_FILES, PREPROCESSING))
    except NoSuchFileError:
        raise UserError(f"teacher {files.name.partition('@')[0]}: {_no_safetensors(weights)}")
    return ModelFiles(files.name, files.folder, files.commit, read_json(files.folder / config), open_clip)


def _no_safetensors(weights: str) -> str:
    return (
        f"no {weights} there, and pickled weights (.bin, .pt) are never loaded; take a revision or a model that has "
        "safetensors, or convert it"
    )


def _looks_local(name: str) -> bool:
    return name.startswith((".", "/", "~", "\\")) or name.count("/") > (1 + name.partition("@")[2].count("/"))


def _local(name: str, folder: Path) -> ModelFiles:
    config, other = own_file(folder, CONFIG), own_file(folder, OPEN_CLIP_CONFIG)
    open_clip = other is not None and (config is None or "model_type" not in read_json(config))
    config, weights = (other, OPEN_CLIP_WEIGHTS) if open_clip else (config, WEIGHTS)
    if config is None:
        raise UserError(
            f"teacher {name}: no {CONFIG} there; give the folder that save_pretrained wrote, one of open_clip with "
            f"{OPEN_CLIP_CONFIG}, or a hub id"
        )
    index = own_file(folder, f"{weights}.index.json")
    if own_file(folder, weights):
        parts = [weights]
    elif index and not open_clip:
        parts = shard_names(index)
    else:
        raise UserError(f"teacher {name}: {_no_safetensors(weights)}")
    if missing := [file for file in parts if own_file(folder, file) is None]:
        raise UserError(f"teacher {name}: {missing[0]} is missing; copy the whole folder again")
    digest = hashlib.sha256()
    for file in sorted({config.name, PREPROCESSING, *_TOKENIZER_FILES, *parts}):
        if path := own_file(folder, file):
            with path.open("rb") as stream:
                digest.update(f"{file} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return ModelFiles(str(folder.resolve()), folder, digest.hexdigest()[:40], read_json(config), open_clip)
