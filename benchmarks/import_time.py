"""Time of ``import clips4`` compared with ``import torch``, and of ``clips4 --help``: seconds, medians.

python benchmarks/import_time.py
"""

import argparse
import statistics
import subprocess
import sys
import time

PROGRAMS = {
    "python -c pass": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "import torch, clips4": ["-c", "import torch, clips4"],
    "import torch, then Segmenter": ["-c", "import torch; from clips4 import Segmenter"],
    "clips4 --help": ["-m", "clips4", "--help"],
    "clips4 train --help": ["-m", "clips4", "train", "--help"],
}


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for number in range(rounds + 1):  # the first fills the file cache
        for name, arguments in PROGRAMS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
            if number:
                seconds[name].append(time.perf_counter() - started)
    print("| program | seconds | more than import torch |\n|---|---:|---:|")
    for name, own in seconds.items():
        extra = statistics.median(a - b for a, b in zip(own, seconds["import torch"], strict=True))
        print(f"| {name} | {statistics.median(own):.2f} | {extra:+.2f} |")


if __name__ == "__main__":
    main()
