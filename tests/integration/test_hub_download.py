"""A download from the real hub; the other tests of downloads use a local server."""

from pathlib import Path

import pytest
import torch

from clips4.models.pretrained import load_backbone

pytestmark = [pytest.mark.network, pytest.mark.slow]


def test_load_backbone_of_preset_paper_comes_from_the_hub_and_then_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    first = load_backbone("resnet50", "timm/resnet50.tv_in1k").state_dict()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    second = load_backbone("resnet50", "timm/resnet50.tv_in1k").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
