"""Real data that lie beside the project, where they do."""

import os
from pathlib import Path

import pytest


def shared(name: str) -> Path:
    """The folder of a real set; the test is skipped, and says so, where it is not there."""
    root = Path(os.environ.get("CLIPS4_DATA", Path(__file__).parents[3] / "shared/data")) / name
    if not root.is_dir():
        pytest.skip(f"{name} is not there: {root}")
    return root
