"""ONNX Runtime for browsers: two files of one version of the npm package ``onnxruntime-web``, known by their digests.

npm downloads the package once into the cache; a copy may be given instead. The licenses come with the Python package
``onnxruntime``, which is made of the same sources.
"""

import gzip
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from clips4.errors import UserError
from clips4.models.onnx.metadata import import_onnxruntime
from clips4.utils.atomic_io import write_atomically
from clips4.utils.cache import cache_root

VERSION = "1.30.0"
# name in the package -> name in the folder, and the digest; compressed here, since not every server does it
FILES = {
    "ort.wasm.bundle.min.mjs": ("ort.js", "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90"),
    "ort-wasm-simd-threaded.wasm": ("ort.wasm.gz", "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"),
}
_LICENSES = {"LICENSE": "LICENSE.txt", "ThirdPartyNotices.txt": "NOTICES.txt"}
_SECONDS = 600  # that a download may take
_OWN_COPY = f"give --onnxruntime a copy of the npm package onnxruntime-web {VERSION}, unpacked or .tgz"


def runtime_files(given: Path | None = None) -> dict[str, bytes]:
    """The runtime and its licenses by name.

    Args:
        given: the npm package, unpacked or as .tgz; by default the cache's, which npm fills.

    Raises:
        UserError: a file is missing or not of this version, or npm is missing or fails.
    """
    cached = cache_root() / "onnxruntime-web" / VERSION
    if given is None and not all((cached / name).is_file() for name in FILES):
        _download(cached)
    found = _read(given or cached)
    for name, (_, digest) in FILES.items():
        if name not in found:
            raise UserError(f"{given or cached}: holds no {name}; {_OWN_COPY}")
        if hashlib.sha256(found[name]).hexdigest() != digest:
            raise UserError(f"{given or cached}: its {name} is not that of onnxruntime-web {VERSION}; {_OWN_COPY}")
    beside = Path(import_onnxruntime().__file__).parent
    licenses = {new: (beside / name).read_bytes() for name, new in _LICENSES.items()}
    named = {FILES[name][0]: content for name, content in found.items()}
    packed = {name: gzip.compress(content, mtime=0) for name, content in named.items() if name.endswith(".gz")}
    return named | packed | licenses


def _read(source: Path) -> dict[str, bytes]:
    """Those of the files that a folder or an archive holds, by name."""
    if source.is_dir():
        folder = source / "dist" if (source / "dist").is_dir() else source
        return {name: (folder / name).read_bytes() for name in FILES if (folder / name).is_file()}
    try:
        with tarfile.open(source) as archive:
            members = {name: archive.extractfile(f"package/dist/{name}") for name in FILES}
            return {name: member.read() for name, member in members.items() if member is not None}
    except (OSError, tarfile.TarError, KeyError) as error:
        raise UserError(f"{source}: not the npm package onnxruntime-web ({type(error).__name__}); {_OWN_COPY}")


def _download(cached: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(f"npm is not installed, which downloads ONNX Runtime for browsers once; {_OWN_COPY}")
    with tempfile.TemporaryDirectory(prefix="clips4-") as folder:
        command = [npm, "pack", f"onnxruntime-web@{VERSION}", "--silent", "--pack-destination", folder]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, cwd=folder)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f"npm did not download onnxruntime-web ({type(error).__name__}); {_OWN_COPY}")
        archives = list(Path(folder).glob("*.tgz"))
        if result.returncode or not archives:
            reason = next((line for line in result.stderr.splitlines() if line.strip()), "no reason given")
            raise UserError(f"npm did not download onnxruntime-web ({reason.strip()[:120]}); {_OWN_COPY}")
        for name, content in _read(archives[0]).items():
            write_atomically(cached / name, content)
