"""Files of a model repository on the hub: pinned to a commit, cache first, errors in one line.

Files are stored in the hub library's own cache (``HF_HOME``), so that a second use needs no network.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clips4.errors import UserError
from clips4.utils.text import printable, read_json

_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*(@[\w][\w./-]*)?")
_SHARD = re.compile(r"[\w][\w.-]{0,200}\.safetensors")


class NoSuchFileError(Exception):
    """The repository exists but has no file of this name.

    Attributes:
        file: the name.
    """

    def __init__(self, message: str, file: str):
        super().__init__(message)
        self.file = file


class _Unreachable(Exception):
    """The hub does not respond, or no longer."""


@dataclass(frozen=True)
class HubFiles:
    """Files of one commit of a repository.

    Attributes:
        name: ``owner/name@commit``.
        commit: its 40 hexadecimal digits.
        folder: the local folder that holds the files.
    """

    name: str
    commit: str
    folder: Path


def is_hub_id(name: str) -> bool:
    """Whether ``name`` has the form ``owner/name`` or ``owner/name@revision``."""
    return _HUB_ID.fullmatch(name) is not None


def cached_models() -> list[str]:
    """List the hub models that are in the local cache and need no network."""
    from huggingface_hub import constants

    folders = Path(constants.HF_HUB_CACHE).glob("models--*") if Path(constants.HF_HUB_CACHE).is_dir() else []
    return sorted(folder.name.removeprefix("models--").replace("--", "/") for folder in folders)


def fetch_files(hub_id: str, kind: str, advice: str, files: Sequence[str], optional: Sequence[str] = ()) -> HubFiles:
    """Download files of a repository that are not in the cache yet.

    Args:
        hub_id: ``owner/name``, or ``owner/name@revision`` with a branch, a tag or a commit; ``main`` by default.
        kind: what the repository should hold, for error messages: "teacher", "run".
        advice: what to do when the hub cannot be reached.
        files: required; weights may also be there as shards, which ``FILE.index.json`` lists.
        optional: fetched where the repository has them.

    Raises:
        NoSuchFileError: the repository lacks a required file.
        UserError: no such repository or revision, access not granted, or the hub is unreachable and the cache
            incomplete.
    """
    name, _, revision = hub_id.partition("@")
    repository = _Repository(name, kind, advice)
    commit = repository.commit(revision or "main", files[0])
    found = [repository.fetch(commit, file) or repository.fetch_shards(commit, file) for file in files]
    for file in optional:
        repository.fetch(commit, file)
    return HubFiles(f"{name}@{commit}", commit, found[0].parent)


def shard_names(index: Path) -> list[str]:
    """The weight files that a ``*.safetensors.index.json`` lists; all lie beside it.

    Raises:
        UserError: it lists none, other files or places, or is not readable.
    """
    listed = read_json(index).get("weight_map")
    names = list(listed.values()) if isinstance(listed, dict) else []
    if not names:
        raise UserError(f"{index}: lists no weights; copy or download it again")
    for name in names:
        if not isinstance(name, str) or not _SHARD.fullmatch(name):
            raise UserError(f"{index}: lists {printable(repr(name)[:80])}, no file of weights beside it; refused")
    return sorted(set(names))


def own_file(folder: Path, name: str) -> Path | None:
    """A file of a model's folder; None where it is missing.

    The hub's cache links ``snapshots/COMMIT/FILE`` to ``blobs/HASH``; a link that leads out of the repository's folder
    could show any file of this machine as a part of the model.

    Raises:
        UserError: not a regular file, or a link that leads out of the folder.
    """
    path = folder / name
    if not path.exists() and not path.is_symlink():
        return None
    inside = folder.resolve()
    if inside.parent.name == "snapshots":
        inside = inside.parent.parent
    if not path.resolve().is_relative_to(inside):
        raise UserError(f"{path}: a link that leads out of its folder; put the file itself there")
    if not path.is_file():
        raise UserError(f"{path}: not a regular file; copy or download it again")
    return path


@dataclass(frozen=True)
class _Repository:
    """A model repository; for ``kind`` and ``advice`` see ``fetch_files``."""

    name: str
    kind: str
    advice: str

    def commit(self, revision: str, file: str) -> str:
        """The commit of a revision: the hub's current one or, where the hub is unreachable, the last one seen.

        Args:
            revision: a branch, a tag, or a commit.
            file: one that the repository must have.
        """
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

        cached = try_to_load_from_cache(self.name, file, revision=revision)
        last = Path(cached).parent.name if isinstance(cached, str) else None  # .../snapshots/COMMIT/FILE
        if last and last == revision:
            return last  # a commit never changes
        try:
            with self._errors(revision, file):
                # one request first: without a network the download function would retry for half a minute
                get_hf_file_metadata(hf_hub_url(self.name, file, revision=revision))
                with _bars_on_terminals_only():
                    return Path(hf_hub_download(self.name, file, revision=revision)).parent.name
        except _Unreachable as error:
            if last:
                return last
            if cached is not None:  # the cache also records missing files
                raise NoSuchFileError(f"{self.kind} {self.name}: has no {file}", file)
            raise self._unreachable(f"nothing of it is cached ({error})")

    def fetch(self, commit: str, file: str) -> Path | None:
        """A file at a commit, from the cache or the hub; None where the repository has no such file.

        The hub's library resumes a broken download some five times; after that the file starts again.
        """
        from huggingface_hub import hf_hub_download, try_to_load_from_cache

        cached = try_to_load_from_cache(self.name, file, revision=commit)
        if cached is not None:
            return Path(cached) if isinstance(cached, str) else None  # the cache also records missing files
        try:
            with self._errors(commit, file), _bars_on_terminals_only():
                return Path(hf_hub_download(self.name, file, revision=commit))
        except NoSuchFileError:
            return None
        except _Unreachable as error:
            raise self._unreachable(f"{file} is not whole in its cache ({error})")

    def fetch_shards(self, commit: str, file: str) -> Path:
        """The index of a sharded weights file, once all its shards are there."""
        index = self.fetch(commit, f"{file}.index.json")
        if index is None:
            raise NoSuchFileError(f"{self.kind} {self.name}: has no {file}", file)
        for shard in shard_names(index):
            if self.fetch(commit, shard) is None:
                raise UserError(f"{self.kind} {self.name}@{commit}: has no {shard}, though its index lists it")
        return index

    @contextmanager
    def _errors(self, revision: str, file: str) -> Iterator[None]:
        """Turn the hub's errors into one line each."""
        from huggingface_hub.errors import (
            EntryNotFoundError,
            GatedRepoError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        of = f"{self.kind} {self.name}"
        try:
            yield
        except GatedRepoError:
            raise UserError(f"{of}: access is granted on request; accept its terms on the hub, then 'hf auth login'")
        except RevisionNotFoundError:
            raise UserError(f"{of}: has no revision {revision!r} (any more); give another after @, or none")
        except RepositoryNotFoundError:
            raise UserError(f"{of}: neither a local folder nor a model on the hub; check its name")
        except LocalEntryNotFoundError as error:
            raise _Unreachable(_reason(error))
        except EntryNotFoundError:
            raise NoSuchFileError(f"{of}: has no {file}", file)
        except Exception as error:
            if not is_connection_error(error):
                raise
            raise _Unreachable(_reason(error))

    def _unreachable(self, what: str) -> UserError:
        return UserError(f"{self.kind} {self.name}: the hub cannot be reached and {what}; {self.advice}")


def is_connection_error(error: Exception) -> bool:
    """Whether a connection failed; the exception depends on the HTTP library below the hub's."""
    of_http = type(error).__module__.startswith(("httpx", "httpcore", "requests", "urllib3", "huggingface_hub"))
    return of_http or isinstance(error, ConnectionError)


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
