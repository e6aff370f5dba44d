"""Networks compiled by ``torch.compile``, where that works and pays."""

import math
import time
from collections.abc import Callable
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from clips4.utils import distributed

Compilation = Literal["always", "auto", "cuda-graphs"]
WORTH = 0.95  # of the eager time: "auto" keeps a compiled network that takes at most this share
_ROUNDS = 3


class Compiled(NamedTuple):
    """A network to train, and what became of its compilation.

    Attributes:
        network: compiled, or as it was.
        note: one line for the user.
    """

    network: nn.Module
    note: str


def compile_network(network: nn.Module, example: Tensor, how: Compilation = "always") -> Compiled:
    """Compile a network for inputs of one size, or leave it as it is where that fails or does not pay.

    Compilation happens at the first call, so some forward and backward passes are made here; no parameter, gradient
    or statistic changes. Compiled kernels round differently from eager ones.

    Args:
        network: differentiable.
        example: an input of the size that all others will have; another size compiles again.
        how: ``always`` compiles; ``auto`` compiles, times a forward and backward pass of both on all ranks, and keeps
            the compiled network if it takes at most 95 % of the time; ``cuda-graphs`` also replays all kernels of a
            pass as one CUDA graph, which saves their launches. On other devices that is ``always``.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(4, 2)
        >>> compile_network(layer, torch.rand(3, 4)).network(torch.rand(3, 4)).shape  # doctest: +SKIP
        torch.Size([3, 2])
    """
    graphs = how == "cuda-graphs" and example.device.type == "cuda"
    gradients = [parameter.grad for parameter in network.parameters()]
    buffers = [buffer.clone() for buffer in network.buffers()]
    failure = ""
    try:
        compiled = cast(nn.Module, torch.compile(network, mode="reduce-overhead" if graphs else "default"))
        _pass(compiled, example)
        share = seconds(compiled, example) / seconds(network, example) if how == "auto" else 0.0
    # a missing C++ compiler, an unsupported operation, a graph that does not fit: each has a class of its own
    except Exception as error:
        failure, share = str(error).strip().split("\n")[0] or type(error).__name__, math.inf
    finally:
        for parameter, gradient in zip(network.parameters(), gradients, strict=True):
            parameter.grad = gradient
        for buffer, before in zip(network.buffers(), buffers, strict=True):
            buffer.copy_(before)
    if how == "auto":
        share = max(distributed.gather_objects(share))  # so that all ranks decide alike
    if failure or math.isinf(share):
        return Compiled(network, f"the student is not compiled: {failure or 'it failed on another rank'}")
    if share > WORTH:
        return Compiled(network, f"the student is not compiled: it would take {share:.0%} of the time per pass")
    gain = f", {share:.0%} of the time per pass" if how == "auto" else ", in CUDA graphs" if graphs else ""
    return Compiled(compiled, f"the student is compiled{gain}")


def seconds(network: Callable[[Tensor], Tensor], example: Tensor) -> float:
    """The shortest of three forward and backward passes after one more, by the clock.

    Example:
        >>> import torch
        >>> seconds(torch.nn.Linear(4, 2), torch.rand(3, 4)) > 0
        True
    """
    _pass(network, example)
    return min(_timed(network, example) for _ in range(_ROUNDS))


def _timed(network: Callable[[Tensor], Tensor], example: Tensor) -> float:
    began = time.perf_counter()
    _pass(network, example)
    return time.perf_counter() - began


def _pass(network: Callable[[Tensor], Tensor], example: Tensor) -> None:
    torch.compiler.cudagraph_mark_step_begin()
    output = network(example)
    if output.requires_grad:
        output.float().square().mean().backward()
    if example.device.type == "cuda":
        torch.cuda.synchronize(example.device)
