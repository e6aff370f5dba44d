"""Devices by name."""

from functools import partial

import pytest
import torch
from torch import nn

from clips4.errors import UserError
from clips4.utils.devices import compile_network, pick_device


def test_auto_is_the_cpu_where_there_is_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["abacus", "cuda:99", ""])
def test_device_that_is_not_there_raises(name: str) -> None:
    with pytest.raises(UserError, match="is not available here; give auto or cpu"):
        pick_device(name)


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())


def test_compile_network_gives_the_same_maps_and_changes_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))  # needs no C++ compiler
    network, warnings = small_network(), list[str]()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    compiled = compile_network(network, torch.rand(2, 3, 8, 8), warnings.append)
    assert compiled is not network
    assert not warnings
    assert all(parameter.grad is None for parameter in network.parameters())
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    images = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(compiled(images), network(images))


def test_compile_network_that_fails_is_left_as_it_is_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no C++ compiler\nmore lines")

    monkeypatch.setattr(torch, "compile", refuse)
    network, warnings = small_network(), list[str]()
    assert compile_network(network, torch.rand(2, 3, 8, 8), warnings.append) is network
    assert warnings == ["the student is not compiled, and training is slower: no C++ compiler"]
