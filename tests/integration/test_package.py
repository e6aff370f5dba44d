"""The wheel and the sdist: what is in them, and that the tests of an unpacked sdist run."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_BUILD = "import sys; from setuptools.build_meta import build_sdist, build_wheel; {}(sys.argv[1])"
_GENERATED = {"PKG-INFO", "setup.cfg"}


def tracked() -> set[str]:
    """The files that git knows; those of an unpacked sdist where there is no git."""
    if not (ROOT / ".git").exists():
        pytest.skip("an unpacked sdist, not a checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in listed.split("\0") if name and (ROOT / name).is_file()}


def build(kind: str, source: Path, folder: Path) -> None:
    """By the build backend itself, without an environment of its own, and so without a network."""
    command = [sys.executable, "-c", _BUILD.format(kind), str(folder)]
    subprocess.run(command, cwd=source, capture_output=True, check=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of the checkout, the sdist unpacked, and a wheel built from that."""
    folder = tmp_path_factory.mktemp("dist")
    copy = folder / "checkout"
    for name in tracked():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())
    build("build_sdist", copy, folder)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    unpacked = next(folder.glob("clips4-*/"))
    build("build_wheel", unpacked, folder)
    return folder


def test_sdist_has_every_file_of_the_checkout(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames() if not archive.getmember(name).isdir()}
    found = {name for name in names if name not in _GENERATED and ".egg-info/" not in name}
    assert found == tracked()


def test_wheel_has_the_package_with_its_assets_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        names = set(archive.namelist())
    package = {name for name in names if ".dist-info/" not in name}
    assert package == {name.removeprefix("src/") for name in tracked() if name.startswith("src/clips4/")}
    for ending in ("presets/recommended.yaml", "assets/serve/index.html", "assets/pages/style.css", "py.typed"):
        assert f"clips4/{ending}" in package
    assert {Path(name).name for name in names - package} >= {"METADATA", "LICENSE", "entry_points.txt", "RECORD"}


def test_sdist_runs_its_tests(built: Path) -> None:
    unpacked = next(built.glob("clips4-*/"))
    chosen = ("test_config.py", "utils/test_text.py", "utils/test_extras.py", "integration/test_package.py")
    tests = [f"tests/{name}" for name in chosen]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(
        command,
        cwd=unpacked,
        env={"PYTHONPATH": str(unpacked / "src"), "PATH": "/usr/bin:/bin", "HOME": str(built)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "skipped" in done.stdout, "this module itself, where there is no git"
