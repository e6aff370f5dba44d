"""Compiled networks: the same maps, nothing changed, left as they are where that fails or does not pay."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from clips4.utils import compilation, distributed
from clips4.utils.compilation import Compilation, compile_network, seconds

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())


@pytest.fixture
def by_graph(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """torch.compile without a C++ compiler; the modes that were requested."""
    compile_by, modes = partial(torch.compile, backend="aot_eager"), list[object]()

    def compile_graph(network: nn.Module, mode: str) -> object:
        modes.append(mode)
        return compile_by(network)

    monkeypatch.setattr(torch, "compile", compile_graph)
    return modes


def times(monkeypatch: pytest.MonkeyPatch, compiled: float, eager: float) -> None:
    """Pretend that a pass of the compiled and of the eager network takes this long."""
    monkeypatch.setattr(
        compilation, "seconds", lambda network, _: eager if type(network) is nn.Sequential else compiled
    )


@pytest.mark.parametrize("how", ["always", "auto", "cuda-graphs"])
def test_compiled_network_gives_the_same_maps_and_changes_no_state(
    how: Compilation, by_graph: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    times(monkeypatch, compiled=1, eager=2)
    network = small_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    compiled, note = compile_network(network, torch.rand(2, 3, 8, 8), how)
    assert compiled is not network
    assert note == ("the student is compiled, 50% of the time per pass" if how == "auto" else "the student is compiled")
    assert all(parameter.grad is None for parameter in network.parameters())
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    torch.testing.assert_close(compiled(IMAGES), network(IMAGES))
    assert by_graph == ["default"]  # graphs of CUDA are for CUDA


def test_compiled_network_that_is_not_faster_is_left_out(
    by_graph: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    times(monkeypatch, compiled=1, eager=1)
    network = small_network()
    compiled, note = compile_network(network, IMAGES, "auto")
    assert compiled is network
    assert note == "the student is not compiled: it would take 100% of the time per pass"


def test_the_slowest_rank_decides_for_all(by_graph: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    times(monkeypatch, compiled=1, eager=2)
    monkeypatch.setattr(distributed, "gather_objects", lambda share: [share, 1.5])
    network = small_network()
    assert compile_network(network, IMAGES, "auto").network is network
    monkeypatch.setattr(distributed, "gather_objects", lambda share: [share, float("inf")])
    compiled, note = compile_network(network, IMAGES, "auto")
    assert compiled is network
    assert note == "the student is not compiled: it failed on another rank"


@pytest.mark.parametrize("how", ["always", "auto"])
def test_network_whose_compilation_fails_is_left_as_it_is(how: Compilation, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no C++ compiler\nmore lines")

    monkeypatch.setattr(torch, "compile", refuse)
    network = small_network()
    compiled, note = compile_network(network, IMAGES, how)
    assert compiled is network
    assert note == "the student is not compiled: no C++ compiler"


def test_seconds_makes_four_passes_forward_and_backward() -> None:
    calls = []

    def network(images: Tensor) -> Tensor:
        calls.append(images.shape)
        return scale * images

    scale = torch.ones(1, requires_grad=True)
    assert seconds(network, IMAGES) > 0
    assert calls == [IMAGES.shape] * 4
    assert scale.grad is not None
    torch.testing.assert_close(scale.grad, 4 * 2 * IMAGES.square().mean()[None])
