"""Arguments that commands share: a run that is given after the images is recognized; so are addresses of stores."""

from pathlib import Path

import pytest

from clips4.cli.arguments import check_run_first, local_out
from clips4.errors import UserError


def test_check_run_first_swapped_arguments_are_named(images: Path, tiny_run: Path) -> None:
    with pytest.raises(UserError) as raised:
        check_run_first([images, tiny_run], "clips4 segment")
    assert str(raised.value) == (
        f"the first argument is the run, but {images} is none and {tiny_run} is: clips4 segment {tiny_run} {images}"
    )


def test_check_run_first_right_order_and_no_run_pass(images: Path, tiny_run: Path, tmp_path: Path) -> None:
    check_run_first([tiny_run, images], "clips4 segment")
    check_run_first([tiny_run, images, tiny_run], "clips4 segment")
    check_run_first([images, tmp_path], "clips4 segment")
    check_run_first([], "clips4 serve")


def test_check_run_first_exported_student_is_a_run(images: Path, tmp_path: Path) -> None:
    model = tmp_path / "student.onnx"
    model.touch()
    with pytest.raises(UserError, match="the first argument is the run"):
        check_run_first([images, model], "clips4 segment")


def test_local_out_store_is_for_shards() -> None:
    for out in ("out", "C:/out", "s3://a/{shard}.tar"):
        assert local_out(Path(out)) == Path(out)
    with pytest.raises(UserError, match=r"--out s3://a/out: give a folder; only shards go to a store"):
        local_out(Path("s3://a/out"))
