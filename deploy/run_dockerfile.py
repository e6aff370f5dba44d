"""Check a Dockerfile, and run its first stage in a clean folder where no Docker is at hand.

    python deploy/run_dockerfile.py                                  # only check
    python deploy/run_dockerfile.py --into /tmp/image --arg TORCH_FLAGS="--index-url ADDRESS"

The folder stands for the image's root: WORKDIR, COPY and the argument PREFIX are placed below it. The user and the
folders of the last stage are not made.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
_WORDS = ("FROM", "ARG", "ENV", "RUN", "COPY", "WORKDIR", "USER", "LABEL", "VOLUME", "EXPOSE", "ENTRYPOINT", "CMD")


class Step(NamedTuple):
    """An instruction of a Dockerfile: its line, its word, and the rest with continued lines joined."""

    line: int
    word: str
    rest: str


def parse(text: str) -> list[Step]:
    """The instructions of a Dockerfile.

    Raises:
        ValueError: a line is no instruction.
    """
    steps, parts, start = [], list[str](), 0
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        start = start if parts else number
        parts.append(line.strip().removesuffix("\\").strip())
        if line.rstrip().endswith("\\"):
            continue
        word, _, rest = " ".join(parts).partition(" ")
        if word not in {
            *["FROM", "ARG", "ENV", "RUN", "COPY", "WORKDIR", "USER", "LABEL", "VOLUME", "EXPOSE", "ENTRYPOINT", "CMD"]
        }:
            raise ValueError(f"line {start}: {word} is no instruction")
        steps.append(Step(start, word, rest))
        parts = []
    return steps


def problems(steps: list[Step], context: Path = ROOT) -> list[str]:
    """What a linter of Dockerfiles says: mutable tags, root, relative folders, caches, files that are not there."""
    found, user, args = [], "root", dict[str, str]()
    for line, word, rest in steps:
        if word == "ARG" and "=" in rest:
            args[rest.split("=")[0]] = rest.split("=", 1)[1].strip('"')
        if word == "FROM":
            image, user = re.sub(r"\$\{(\w+)\}", lambda name: args[name[1]], rest.split()[0]), "root"
            if ":" not in image or image.endswith(":latest"):
                found.append(f"line {line}: {image} needs a version")
        if (
            word == "RUN"
            and "apt-get install" in rest
            and not all(
                part in rest for part in ("apt-get update", "--no-install-recommends", "rm -rf /var/lib/apt/lists")
            )
        ):
            found.append(f"line {line}: apt-get without update, --no-install-recommends or removal of its lists")
        if word == "RUN" and re.search(r"pip\"? install (?!.*--no-cache-dir)", rest):
            found.append(f"line {line}: pip keeps its cache in the image")
        if word == "RUN" and re.search(r"\b(sudo|curl|wget)\b|cd /", rest):
            found.append(f"line {line}: sudo, a download without a digest, or cd in place of WORKDIR")
        if word == "WORKDIR" and not rest.startswith("/"):
            found.append(f"line {line}: a relative WORKDIR")
        if word == "COPY" and not rest.startswith("--from"):
            found += [f"line {line}: no {name}" for name in rest.split()[:-1] if not allowed(context, name)]
        if word in ("ENTRYPOINT", "CMD") and not isinstance(json.loads(rest), list):
            found.append(f"line {line}: {word} as text starts a shell, which keeps signals from the program")
        user = rest if word == "USER" else user
    return found + ([] if user not in ("root", "0") else ["the last stage runs as root"])


def allowed(context: Path, name: str) -> bool:
    """Whether a file or folder of the context exists, and the list of exceptions in .dockerignore has it."""
    kept = [line[1:] for line in (context / ".dockerignore").read_text("utf-8").split() if line.startswith("!")]
    return (context / name).exists() and any(name == each or name.startswith(f"{each}/") for each in kept)


def run_first_stage(steps: list[Step], into: Path, given: Mapping[str, str]) -> Path:
    """Run the steps up to the second FROM below ``into``; the folder PREFIX."""
    environment, here, stages = dict(os.environ), into, 0
    environment.pop("PYTHONPATH", None)
    for _, word, rest in steps:
        stages += word == "FROM"
        if stages > 1:
            break
        if word == "ARG":
            name, _, value = rest.partition("=")
            value = given.get(name, value.strip('"') or environment.get(name, ""))
            environment[name] = f"{into}{value}" if name == "PREFIX" else value
        elif word == "WORKDIR":
            here = into / rest.lstrip("/")
            here.mkdir(parents=True)
        elif word == "COPY":
            *names, target = rest.split()
            for name in names:
                place = here / target
                (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, place)
        elif word == "RUN":
            print(f"RUN {rest}", flush=True)
            subprocess.run(["sh", "-ec", rest], cwd=here, env=environment, check=True)
    return Path(environment["PREFIX"])


def main() -> int:
    """Check, and with --into run; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, help="an empty folder to run the first stage in")
    parser.add_argument("--arg", action="append", default=[], help="NAME=VALUE, as docker build --build-arg")
    options = parser.parse_args()
    steps = parse((ROOT / "Dockerfile").read_text("utf-8"))
    if found := problems(steps):
        print("\n".join(found))
        return 1
    if options.into:
        options.into.mkdir(parents=True)
        prefix = run_first_stage(steps, options.into.resolve(), dict(each.split("=", 1) for each in options.arg))
        entry = json.loads(next(rest for _, word, rest in steps if word == "ENTRYPOINT"))
        return subprocess.run([prefix / "bin" / entry[0], "--version"], cwd=options.into, check=False).returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
