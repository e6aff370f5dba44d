"""Where ONNX Runtime for browsers comes from; the real package is in tests/integration/test_page_without_server.py."""

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from clips4.errors import UserError
from clips4.serve.page import runtime
from clips4.utils.cache import cache_root

ROOT = Path(__file__).parents[3]
CONTENT = {"ort.wasm.bundle.min.mjs": b"script", "ort-wasm-simd-threaded.wasm": b"\0asm"}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An unpacked package of two small files, whose digests count."""
    folder = tmp_path / "onnxruntime-web"
    (folder / "dist").mkdir(parents=True)
    for name, content in CONTENT.items():
        (folder / "dist" / name).write_bytes(content)
    digests = {name: (new, hashlib.sha256(CONTENT[name]).hexdigest()) for name, (new, _) in runtime.FILES.items()}
    monkeypatch.setattr(runtime, "FILES", digests)
    monkeypatch.setenv("CLIPS4_CACHE", str(tmp_path / "cache"))
    return folder


def archive_of(package: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(package, "package")
    return buffer.getvalue()


def check(files: dict[str, bytes]) -> None:
    assert set(files) == {"ort.js", "ort.wasm.gz", "LICENSE.txt", "NOTICES.txt"}
    assert files["ort.js"] == b"script"
    assert gzip.decompress(files["ort.wasm.gz"]) == b"\0asm"


def test_copy_may_be_a_folder_or_an_archive(package: Path, tmp_path: Path) -> None:
    check(runtime.runtime_files(package))
    check(runtime.runtime_files(package / "dist"))
    (tmp_path / "package.tgz").write_bytes(archive_of(package))
    check(runtime.runtime_files(tmp_path / "package.tgz"))


def test_npm_downloads_once(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "package.tgz").write_bytes(archive_of(package))
    npm = tmp_path / "bin" / "npm"
    npm.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/calls"\ncp "{tmp_path}/package.tgz" "$5"\n')
    npm.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(npm))
    for _ in range(2):
        check(runtime.runtime_files())
    assert (tmp_path / "calls").read_text().startswith(f"pack onnxruntime-web@{runtime.VERSION} ")
    assert (tmp_path / "calls").read_text().count("\n") == 1


def test_without_npm_the_message_names_the_option(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"npm is not installed.*--onnxruntime"):
        runtime.runtime_files()


def test_failing_npm_is_one_line(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'no network' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(npm))
    with pytest.raises(UserError, match=r"no network.*--onnxruntime") as error:
        runtime.runtime_files()
    assert "\n" not in str(error.value)
    assert not cache_root().exists()


@pytest.mark.parametrize("damage", ["changed", "missing", "no package", "nowhere"])
def test_copy_that_is_not_the_package_is_refused(damage: str, package: Path, tmp_path: Path) -> None:
    given = package
    if damage == "changed":
        (package / "dist" / "ort-wasm-simd-threaded.wasm").write_bytes(b"other")
    elif damage == "missing":
        (package / "dist" / "ort-wasm-simd-threaded.wasm").unlink()
    else:
        given = tmp_path / "other.tgz"
        if damage == "no package":
            given.write_bytes(b"no archive")
    with pytest.raises(UserError, match="onnxruntime-web"):
        runtime.runtime_files(given)


def test_version_is_the_one_that_the_page_is_checked_with() -> None:
    pinned = json.loads((ROOT / "package.json").read_text())["devDependencies"]
    assert pinned["onnxruntime-web"] == runtime.VERSION
