"""The service of docs/production.md under load: many clients at once, hostile ones among them.

    python benchmarks/service.py RUN VIDEO [--requests 1000] [--clients 8]

Every answer for a good video is compared with the predictor's own, and every bad request must get a status that says so.
Prints statuses by kind of request, seconds of a request, and the memory of the service before and after.
"""

import argparse
import http.client
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

import muybridge

SCRIPTS = Path(__file__).parent.parent / "docs" / "scripts"
MOST_BYTES = 2**22
EXPECTED = {
    "good": 200,
    "empty": 422,
    "noise": 422,
    "half": None,
    "too long": 413,
    "bad top": 422,
    "top 0": 422,
    "gone": None,
}
"""Status by kind of request; None: whatever comes, the service must go on."""


def request(port: int, body: bytes, path: str = "/predict") -> tuple[int, bytes]:
    """Status and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("POST", path, body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def hung_up(port: int, body: bytes) -> tuple[int, bytes]:
    """A client that goes away in the middle of its video."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body[: len(body) // 2])
    return 0, b""


def ask(port: int, kind: str, video: bytes) -> tuple[str, int, bytes, float]:
    """Kind, status, body and seconds of a request."""
    begun = time.monotonic()
    if kind == "gone":
        status, body = hung_up(port, video)
    else:
        half, long = video[: len(video) // 2], bytes(MOST_BYTES + 1)
        bodies = {"empty": b"", "noise": random.randbytes(5000), "half": half, "too long": long}
        paths = {"bad top": "/predict?top=many", "top 0": "/predict?top=0"}
        try:
            status, body = request(port, bodies.get(kind, video), paths.get(kind, "/predict"))
        except (
            ConnectionError,
            http.client.HTTPException,
        ):  # the service need not read a body that is too long to its end
            status, body = (413 if kind == "too long" else -1), b""
    return kind, status, body, time.monotonic() - begun


def shown(predictions: list[dict[str, object]]) -> list[dict[str, object]]:
    """Predictions without the name of the file, which bytes have none of."""
    return [{**one, "path": ""} for one in predictions]


def main() -> int:
    """Start the service, ask it, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("video", type=Path)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    video = options.video.read_bytes()
    with muybridge.load(options.run) as predictor:
        wanted = [one.as_json() for one in predictor(video)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"MUYBRIDGE_RUN": options.run, "MUYBRIDGE_MOST_BYTES": str(MOST_BYTES)}
    command = [sys.executable, "-m", "uvicorn", "service:app", "--app-dir", str(SCRIPTS), "--port", str(port)]
    service = subprocess.Popen([*command, "--log-level", "error"], env=environment)
    try:
        until = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert service.poll() is None, "the service ended"
                assert time.monotonic() < until, "the service does not begin"
                time.sleep(0.2)
        rng = random.Random(0)
        kinds = [rng.choice(list(EXPECTED)) if rng.random() < 0.2 else "good" for _ in range(options.requests)]
        memory, answers = [], []
        with ThreadPoolExecutor(options.clients) as clients:
            for number, answer in enumerate(clients.map(lambda kind: ask(port, kind, video), kinds)):
                answers.append(answer)
                if number in (options.requests // 5, options.requests - 1):
                    family = [psutil.Process(service.pid), *psutil.Process(service.pid).children(recursive=True)]
                    memory.append(sum(one.memory_info().rss for one in family) / 2**20)
        statuses = Counter((kind, status) for kind, status, _, _ in answers)
        for (kind, status), count in sorted(statuses.items()):
            print(f"{kind:10} {status:4} {count:5}")
        good = [json.loads(body)["predictions"] for kind, status, body, _ in answers if (kind, status) == ("good", 200)]
        others = [one for one in good if shown(one) != shown(wanted)]
        wrong = [(kind, status) for kind, status, _, _ in answers if EXPECTED[kind] not in (None, status)]
        seconds = sorted(seconds for kind, _, _, seconds in answers if kind == "good")
        print(f"good answers that differ from the predictor's: {len(others)}; statuses other than expected: {wrong}")
        within = seconds[len(seconds) * 95 // 100]
        print(f"seconds of a good request: median {statistics.median(seconds):.3f}, 95 % within {within:.3f}")
        print(f"memory after a fifth of the requests {memory[0]:.0f} MiB, at the end {memory[1]:.0f} MiB")
        return int(bool(others or wrong))
    finally:
        service.terminate()
        service.wait(30)


if __name__ == "__main__":
    raise SystemExit(main())
