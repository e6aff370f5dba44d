"""How fast `clips4 serve` is: first labels after opening an image, new names, and users at once.

    python benchmarks/serve.py runs/pets --users 8 --seconds 120

The server runs in a process of its own, as people start it; requests come through its HTTP port. Each user opens an
image of 640 x 480, then asks for labels of changing classes and for the names of pixels, without a pause.
"""

import argparse
import http.client
import io
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NAMES = ("sky", "wall", "dog", "horse", "road", "river", "table", "boat", "sheep", "window")


class User:
    """A session of the JSON API."""

    def __init__(self, port: int, token: str):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._headers: dict[str, str] = {}
        session = self.call("POST", "/api/session", {"token": token})["session"]
        self._headers = {"Authorization": f"Bearer {session}"}

    def call(self, method: str, path: str, body: Any = None) -> Any:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        self._connection.request(method, path, data, self._headers)
        response = self._connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise RuntimeError(f"{method} {path}: {response.status} {content[:200]!r}")
        return json.loads(content)


def photograph(seed: int) -> bytes:
    """A JPEG of 640 x 480 with soft shapes."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


def classes(first: int, count: int = 4) -> dict[str, Any]:
    return {"classes": [{"name": NAMES[(first + i) % len(NAMES)]} for i in range(count)]}


def timed(times: list[float], user: User, method: str, path: str, body: Any = None) -> Any:
    start = time.perf_counter()
    found = user.call(method, path, body)
    times.append(time.perf_counter() - start)
    return found


def work(user: User, number: int, end: float, times: list[float], problems: list[str]) -> None:
    try:
        image = user.call("POST", "/api/images?name=a.jpg", photograph(number))["id"]
        step = number
        while time.perf_counter() < end:
            step += 1
            timed(times, user, "POST", f"/api/images/{image}/labels", classes(step))
            pixel = {**classes(step), "x": step * 37 % 640, "y": step * 23 % 480}
            timed(times, user, "POST", f"/api/images/{image}/pixel", pixel)
    except Exception as error:
        problems.append(f"user {number}: {error}")


def report(name: str, times: list[float]) -> None:
    milliseconds = 1000 * np.array(times)
    middle, high = np.percentile(milliseconds, [50, 95])
    print(f"{name}: median {middle:.0f} ms, p95 {high:.0f} ms, {len(times)} calls", flush=True)


def measure(port: int, token: str, users: int, seconds: float) -> int:
    first = User(port, token)
    opening: list[float] = []
    for seed in range(5):
        start = time.perf_counter()
        image = first.call("POST", "/api/images?name=a.jpg", photograph(100 + seed))["id"]
        first.call("POST", f"/api/images/{image}/labels", classes(0))
        opening.append(time.perf_counter() - start)
    report("first labels after opening", opening)
    new: list[float] = []
    for start_at in range(len(NAMES)):
        timed(new, first, "POST", f"/api/images/{image}/labels", classes(start_at, 3))
    report("labels of other names", new)
    tokens = [first.call("POST", "/api/invitations")["address"].rpartition("=")[2] for _ in range(users)]
    times: list[float] = []
    problems: list[str] = []
    end = time.perf_counter() + seconds
    threads = [
        threading.Thread(target=work, args=(User(port, each), number, end, times, problems))
        for number, each in enumerate(tokens)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report(f"{users} users, {seconds:g} s", times)
    print(f"{len(problems)} problems", *problems, sep="\n")
    return len(problems)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a trained run")
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=120)
    given = parser.parse_args()
    command = [sys.executable, "-m", "clips4", "serve", str(given.run), "--port", "0", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        for line in server.stdout:
            if address := re.search(r":(\d+)/\?token=(\S+)", line):
                break
        else:
            raise SystemExit("the server did not start")
        try:
            failed = measure(int(address[1]), address[2], given.users, given.seconds)
        finally:
            server.terminate()
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
