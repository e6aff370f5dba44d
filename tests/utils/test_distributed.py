"""Two ranks of batch B are one of batch 2B: gradients, prototypes, the search for them, and a whole run by torchrun."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from clips4.config import ExtensionConfig, ObjectiveConfig, SegmentConfig
from clips4.data.label_maps import IGNORED
from clips4.data.views import draw_pixels
from clips4.errors import UserError
from clips4.method.objective import objective
from clips4.method.prototype_search import PrototypeSearch
from clips4.method.prototypes import update_unknown
from clips4.models.checkpoint import load_checkpoint
from clips4.training.loop import train
from clips4.utils import distributed
from clips4.utils.distributed import Share, launched_share
from tests.helpers import TINY, generator, unit
from tests.two_ranks import on_two_ranks

SEGMENTS = SegmentConfig(clusters=(2, 2), iterations=3)
KNOWN, UNKNOWN, DIMENSIONS = 4, 5, 6
VARIANTS = ("plain", "exclude_own", "exclude_same_class")  # of L_t
Results = dict[str, list[dict[str, Any]]]


def everything(rank: int) -> dict[str, Any]:
    """One rank's part of all that is tested below, so that two processes are started only once."""
    images = range(2 * rank, 2 * rank + 2)
    return {
        "gather": gather(rank),
        **{f"step, {variant}": a_step(images, variant) for variant in VARIANTS},
        "search": search(range(rank, 11), 2),
    }


@pytest.fixture(scope="module")
def shares(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What each of the two ranks found, by the name of the work."""
    first, second = on_two_ranks(everything, tmp_path_factory.mktemp("ranks"))
    return {name: [first[name], second[name]] for name in first}


# --------------------------------------------------------------------------------------------------- one process


def test_one_process_is_given_back_what_it_gives() -> None:
    x = unit(3, 2)
    assert (distributed.world_size(), distributed.rank()) == (1, 0)
    assert distributed.total(x) is x
    assert distributed.gather_rows(x, [3]) is x
    assert distributed.gather_objects("a") == ["a"]
    assert distributed.counts(3, 4, device=x.device).tolist() == [[3, 4]]


# ------------------------------------------------------------------------------------------------- collectives


def gather(rank: int) -> dict[str, Any]:
    x = (torch.arange(6.0).view(3, 2) + 10 * rank)[: 3 - 2 * rank].requires_grad_()  # three rows and one
    every = distributed.gather_rows(x, [3, 1])
    # each rank weighs the rows in its own way
    (every * (rank + 1)).square().sum().backward()
    assert x.grad is not None
    return {
        "every": every.detach(),
        "gradient": x.grad,
        "counts": distributed.counts(rank, 7, device=x.device),
        "total": distributed.total(torch.tensor(rank + 1.0)),
        "objects": distributed.gather_objects({"rank": rank}),
    }


def test_rows_counts_and_sums_of_two_ranks(shares: Results) -> None:
    first, second = shares["gather"]
    rows = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [10.0, 11.0]])
    for got in (first, second):
        assert torch.equal(got["every"], rows)
        assert got["counts"].tolist() == [[0, 7], [1, 7]]
        assert got["total"] == 3
        assert got["objects"] == [{"rank": 0}, {"rank": 1}]
    slopes = 2 * rows * (1 + 4)  # both ranks' share: 1 squared and 2 squared
    assert torch.equal(torch.cat([first["gradient"], second["gradient"]]), slopes)


# ------------------------------------------------------------------------------------------------- the objective


def settings(variant: str) -> ObjectiveConfig:
    return ObjectiveConfig(
        contrast_weight=0.7,
        embedding_weight=1.3,
        semantic_weight=0.4,
        concentration=6.0,
        temperature=0.2,
        exclude_own=variant == "exclude_own",
    )


def images_of(images: range) -> dict[str, Tensor]:
    """Batch of the given images, two views of 6 x 6 each; the third has regions that few others have, and holes."""
    regions, first = [], 0
    for image in images:
        own = torch.randint(-1 if image == 2 else 0, 2 + image, (2, 6, 6), generator=generator(image))
        regions.append(torch.where(own == IGNORED, IGNORED, own + first))
        first += int(own.max()) + 1
    return {
        "features": torch.cat([unit(2, 5, 6, 6, seed=10 + image, dim=1) for image in images]),
        "regions": torch.cat(regions),
        "pixel_map": torch.cat([unit(2, DIMENSIONS, 6, 6, seed=20 + image, dim=1) for image in images]),
        "drawn": torch.cat([draw_pixels(72, 30, generator(image)) + 72 * index for index, image in enumerate(images)]),
    }


def a_step(images: range, variant: str) -> dict[str, Tensor]:
    """Loss and gradient of a linear student, and the unknown prototypes after the step."""
    batch, prototypes = images_of(images), unit(KNOWN + UNKNOWN, DIMENSIONS, seed=5)
    weight = torch.randn(DIMENSIONS, 5, generator=generator(7), dtype=torch.float64, requires_grad=True)
    z = torch.nn.functional.normalize(torch.einsum("ed,bdhw->behw", weight, batch["features"]), dim=1)
    terms = objective(
        z,
        batch["regions"],
        batch["pixel_map"],
        prototypes,
        settings(variant),
        SEGMENTS,
        batch["drawn"],
        text=unit(KNOWN, DIMENSIONS, seed=6),
        extensions=ExtensionConfig(exclude_same_class=variant == "exclude_same_class"),
    )
    terms.total.backward()
    assert weight.grad is not None
    # what data-parallel training does: the mean of the ranks' gradients
    gradient = distributed.total(weight.grad) / distributed.world_size()
    values = distributed.total(torch.stack(terms[:4]).detach()) / distributed.world_size()
    unknown = update_unknown(prototypes[KNOWN:], prototypes[:KNOWN], terms.guidance, 0.3)
    return {"gradient": gradient, "values": values, "unknown": unknown}


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_ranks_make_the_step_of_one_with_both_batches(shares: Results, variant: str) -> None:
    alone = a_step(range(4), variant)
    assert float(alone["gradient"].norm()) > 0.01
    for share in shares[f"step, {variant}"]:
        for name, value in alone.items():
            error = float((share[name] - value).norm() / value.norm())
            assert error < 1e-12, name


# ---------------------------------------------------------------------------------------------- prototype search


def search(images: range, stride: int = 1) -> dict[str, Tensor]:
    found = PrototypeSearch(unit(3, DIMENSIONS, seed=1), m=4, sample=12, seed=0)
    for image in images[::stride]:
        found.add(image, unit(7, DIMENSIONS, seed=100 + image))
    return found.result()._asdict()


def test_two_ranks_find_the_prototypes_of_one(shares: Results) -> None:
    alone = search(range(11))
    for share in shares["search"]:
        assert torch.equal(share["sample"], alone["sample"])
        assert torch.equal(share["known"], alone["known"])


# ------------------------------------------------------------------------------------------------------ torchrun


@pytest.mark.slow
def test_torchrun_on_two_processes_trains_like_one(images: Path, tmp_path: Path) -> None:
    from clips4.config import load_config
    from clips4.data.class_names import load_classes

    # equal rates for many digits: AdamW's first steps blow up what is almost zero
    own = ["data.crop=64", "train.steps=2", "train.save_every=2", "train.max_grad_norm=1e9", "train.lr=1e-4"]
    one = [*TINY, *own, "train.batch=2"]
    train(
        sorted(images.iterdir()),
        load_classes("cat,cup,grass"),
        load_config("cpu", one),
        tmp_path / "one",
        device="cpu",
    )
    two = [part for setting in [*TINY, *own, "train.batch=1"] for part in ("--set", setting)]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "clips4",
        "train",
        "--preset",
        "cpu",
    ]
    command += [str(images), "--classes", "cat,cup,grass", "--out", str(tmp_path / "two"), "--device", "cpu", *two]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Trained on 3 images") == 1
    ours, theirs = load_checkpoint(tmp_path / "one"), load_checkpoint(tmp_path / "two")
    assert torch.equal(ours.prototypes.known, theirs.prototypes.known)
    torch.testing.assert_close(ours.prototypes.unknown, theirs.prototypes.unknown, rtol=0, atol=1e-6)
    for (name, value), other in zip(
        ours.student.state_dict().items(), theirs.student.state_dict().values(), strict=True
    ):
        assert float((value - other).double().norm()) <= 1e-4 * float(value.double().norm()) + 1e-6, name


def test_launched_share_torchrun_and_slurm_give_rank_and_ranks() -> None:
    assert launched_share({}) == Share(0, 1, 0)
    assert launched_share({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}) == Share(3, 4, 1)
    assert launched_share({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "1"}) == Share(1, 2, 1)
    assert launched_share({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}) == Share(), "a batch script is no task of srun"


@pytest.mark.parametrize("rank", ["2", "-1", "first"])
def test_launched_share_rank_out_of_range_raises(rank: str) -> None:
    with pytest.raises(UserError, match="not a rank"):
        launched_share({"RANK": rank, "WORLD_SIZE": "2"})


def test_share_of_all_ranks_is_each_item_once() -> None:
    items = list(range(10))
    assert sorted(item for rank in range(3) for item in Share(rank, 3).of(items)) == items
