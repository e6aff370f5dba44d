"""Devices by name."""

import pytest
import torch

from clips4.errors import UserError
from clips4.utils.devices import pick_device


def test_auto_is_the_cpu_where_there_is_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["abacus", "cuda:99", ""])
def test_device_that_is_not_there_raises(name: str) -> None:
    with pytest.raises(UserError, match="is not available here; give auto or cpu"):
        pick_device(name)
