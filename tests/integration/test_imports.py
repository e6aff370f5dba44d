"""What must start fast loads no PyTorch, which takes seconds to import."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "clips4.regions.job",
        "clips4.evaluation.predictions",
        "clips4.evaluation.protocols",
        "clips4.evaluation.record",
    ],
)
def test_import_of_light_module_loads_no_torch(module: str) -> None:
    program = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
