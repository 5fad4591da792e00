"""Verifications per second on one core: the function alone, and `/verify` over HTTP with nginx's requests.

    python -m benchmarks.bench_jwt [SECONDS]      (default 5 for each line)

Each number is verifications per second of the verifier's own processor time, which depends little on other load. Over
HTTP the server is a separate process, which gets requests on four connections without pause. The `/health` endpoint of
the same server shows the cost of HTTP alone. Goal: 2000 per second for valid tokens and attacks alike. Exit status 1 if
it is missed.
"""

from __future__ import annotations

import argparse
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path

import psutil

from services.jwt_verifier.keys import JwksKeys, PemKey
from services.jwt_verifier.tokens import Rules, TokenRefused, Verifier
from tests.testbed.issuer import ATTACKS, AUDIENCE, ISSUER, MAX_AGE_S, ORGANISATION, Issuer

MIN_RATE = 2000
CONNECTIONS = 4


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("seconds", nargs="?", type=float, default=5.0)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rates = [rate for algorithm in ("RS256", "ES256", "EdDSA") for rate in functions(folder, algorithm, seconds)]
        rates += [rate for algorithm in ("RS256", "ES256", "EdDSA") for rate in server(folder, algorithm, seconds)]
    print(f"the slowest of those promised: {min(rates):,.0f} a second of processor time; promised {MIN_RATE:,}")
    return 0 if min(rates) >= MIN_RATE else 1


def functions(folder: Path, algorithm: str, seconds: float) -> Iterator[float]:
    """Rates of the function alone, per second of this process's processor time."""
    issuer, path = Issuer(algorithm), folder / "key.pem"
    path.write_bytes(issuer.pem)
    rules = Rules(ISSUER, AUDIENCE, ORGANISATION, MAX_AGE_S)
    attacks = cycle([attack.make(issuer) for attack in ATTACKS])
    sound = issuer.token()
    pem, jwks = Verifier(PemKey(path), rules), Verifier(JwksKeys("https://x/", fetch=lambda _: issuer.jwks), rules)
    yield measure_function(f"function, {algorithm}, PEM", lambda: pem.verify(sound), seconds)
    yield measure_function(f"function, {algorithm}, JWKS", lambda: jwks.verify(sound), seconds)

    def verify_attack() -> None:
        with suppress(TokenRefused):
            pem.verify(next(attacks))

    yield measure_function(f"function, {algorithm}, attacks", verify_attack, seconds)


def measure_function(name: str, do: Callable[[], object], seconds: float) -> float:
    do()
    count, began, spent = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        do()
        count += 1
    wall, cpu = time.perf_counter() - began, time.process_time() - spent
    return print_rate(name, count, cpu, wall)


def print_rate(name: str, count: int, cpu: float, wall: float) -> float:
    each = f"{cpu / count * 1e6:6.0f} µs each"
    print(f"{name:28} {count / cpu:10,.0f} a second of processor time ({each}), {count / wall:8,.0f} on the clock")
    return count / cpu


def server(folder: Path, algorithm: str, seconds: float) -> Iterator[float]:
    """Rates of the server, per second of its own processor time."""
    issuer = Issuer(algorithm)
    with start_server(folder, issuer) as (process, port):
        sound = {"Authorization": f"Bearer {issuer.token()}", "X-Required-Role": "viewer"}
        measure_requests(process, port, f"HTTP, {algorithm}, /health", "/health", {}, 200, seconds)
        yield measure_requests(process, port, f"HTTP, {algorithm}, bearer", "/verify", sound, 200, seconds)
        yield measure_requests(
            process,
            port,
            f"HTTP, {algorithm}, cookie",
            "/verify",
            {"Cookie": f"__Host-irt={issuer.token()}"},
            200,
            seconds,
        )
        forged = {"Authorization": f"Bearer {issuer.forged(lambda _: bytes(64))}"}
        yield measure_requests(process, port, f"HTTP, {algorithm}, forged", "/verify", forged, 401, seconds)


def measure_requests(
    process: psutil.Process, port: int, name: str, path: str, headers: dict[str, str], status: int, seconds: float
) -> float:
    counts = [0] * CONNECTIONS
    end = time.perf_counter() + seconds

    def ask(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while time.perf_counter() < end:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != status:
                raise RuntimeError(f"{name}: status {answer.status}")
            counts[number] += 1
        connection.close()

    began, before = time.perf_counter(), process.cpu_times()
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = process.cpu_times()
    cpu = after.user + after.system - before.user - before.system
    return print_rate(name, sum(counts), cpu, time.perf_counter() - began)


@contextmanager
def start_server(folder: Path, issuer: Issuer) -> Iterator[tuple[psutil.Process, int]]:
    (folder / "key.pem").write_bytes(issuer.pem)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "JWT_PUBLIC_KEY_PATH": str(folder / "key.pem"),
        "JWT_ISSUER": ISSUER,
        "JWT_AUDIENCE": AUDIENCE,
        "IRT_ORG_ID": ORGANISATION,
        "PORT": str(port),
    }
    child = subprocess.Popen([sys.executable, "-m", "services.jwt_verifier"], env=environment, cwd=folder)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            time.sleep(0.05)
        yield psutil.Process(child.pid), port
    finally:
        child.terminate()
        child.wait(10)


if __name__ == "__main__":
    sys.exit(main())
