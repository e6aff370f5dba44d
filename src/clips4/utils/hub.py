"""Single files of the hub's repositories: pinned to a commit, from its cache where they are there, errors in one line.

What is fetched goes to the hub library's own cache (``HF_HOME``), where a second use finds it, offline too.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clips4.errors import UserError

_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*(@[\w][\w./-]*)?")


def is_hub_id(name: str) -> bool:
    """Whether this is written as ``owner/name`` or ``owner/name@revision``."""
    return _HUB_ID.fullmatch(name) is not None


class NoSuchFileError(Exception):
    """The repository is there, but holds no such file."""


class _Unreachable(Exception):
    """The hub does not answer, or no longer."""


@dataclass(frozen=True)
class Repository:
    """A model repository of the hub.

    Attributes:
        name: ``owner/name``.
        kind: what it is to be, as errors say it: "teacher", "run".
        otherwise: what to do where the hub cannot be reached.
    """

    name: str
    kind: str
    otherwise: str

    def commit(self, revision: str, file: str) -> str:
        """The commit that a revision is: as the hub says now or, where it cannot be reached, as it was when last asked.

        Args:
            revision: a branch, a tag, or a commit.
            file: one that the repository has to have.

        Raises:
            NoSuchFileError: it has not.
            UserError: no such repository or revision, access not granted, or out of reach and nothing cached.
        """
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

        cached = try_to_load_from_cache(self.name, file, revision=revision)
        last = Path(cached).parent.name if isinstance(cached, str) else None  # .../snapshots/COMMIT/FILE
        if last and last == revision:
            return last  # a commit never changes
        try:
            with self._errors(revision, file):
                # asked once: the library's own way waits and tries again, for half a minute where there is no network
                get_hf_file_metadata(hf_hub_url(self.name, file, revision=revision))
                with _bars_on_terminals_only():
                    return Path(hf_hub_download(self.name, file, revision=revision)).parent.name
        except _Unreachable as error:
            if last:
                return last
            raise self._unreachable(f"nothing of it is cached ({error})")

    def fetch(self, commit: str, file: str) -> Path | None:
        """A file at a commit, from the cache or the hub; None where the repository has none of that name.

        The hub's library takes up a broken connection where it broke, some five times; then this file begins anew.

        Raises:
            UserError: see ``commit``.
        """
        from huggingface_hub import hf_hub_download, try_to_load_from_cache

        cached = try_to_load_from_cache(self.name, file, revision=commit)
        if cached is not None:
            return Path(cached) if isinstance(cached, str) else None  # the library remembers what is not there, too
        try:
            with self._errors(commit, file), _bars_on_terminals_only():
                return Path(hf_hub_download(self.name, file, revision=commit))
        except NoSuchFileError:
            return None
        except _Unreachable as error:
            raise self._unreachable(f"{file} is not whole in its cache ({error})")

    @contextmanager
    def _errors(self, revision: str, file: str) -> Iterator[None]:
        """The hub's errors as one line each."""
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
            raise UserError(f"{of}: no revision {revision!r} of it (any more); give another after @, or none")
        except RepositoryNotFoundError:
            raise UserError(f"{of}: neither a folder here nor a model of the hub; look at its name again")
        except LocalEntryNotFoundError as error:
            raise _Unreachable(_reason(error))
        except EntryNotFoundError:
            raise NoSuchFileError(f"{of}: has no {file}")
        except Exception as error:
            if not is_connection_error(error):
                raise
            raise _Unreachable(_reason(error))

    def _unreachable(self, what: str) -> UserError:
        return UserError(f"{self.kind} {self.name}: the hub cannot be reached and {what}; {self.otherwise}")


def is_connection_error(error: Exception) -> bool:
    """Whether a connection broke: what is raised depends on the HTTP library that the hub's own is built on."""
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
