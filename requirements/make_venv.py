"""Makes `.venv` from the lock files: `python3 requirements/make_venv.py [EXTRA …]`, which `make` calls. Repeated, it
installs only what changed, for the extras of earlier calls too.

Runs before anything is installed, on the standard library. pip installs uv, into a folder that goes again, and uv all
the rest; both check the hashes of the lock files. uv does not read pip's configuration, so its index, certificates and
proxy are handed on.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from ast import literal_eval
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

LOCKS = Path(__file__).resolve().parent
ROOT = LOCKS.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
READY = VENV / ".ready"
"""Hash of each lock file that is installed."""
TOOLS = LOCKS / "requirements-build.lock"
"""uv, and what builds a package from its source."""
OPTIONAL = {"r": "so the engines mirt and brms are absent: apt install r-base-dev python3-dev, then the same command"}
"""Extras that the rest does without, and what to say then."""
HANDED_ON = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "HTTPS_PROXY",
}
"""Settings of pip, and the variable by which uv knows each."""


def main(asked: list[str]) -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 - an older one can start this
        sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 …")
    runs = VENV.exists() and _ran([PYTHON, "-c", ""]) == ""
    done: dict[str, str] = json.loads(READY.read_text("utf-8") or "{}") if runs and READY.exists() else {}
    wanted = {lock.name: _fingerprint(lock) for lock in map(_lock_of, ["", *asked])}
    wanted |= {name: _fingerprint(LOCKS / name) for name in done if (LOCKS / name).exists()}
    missing = [name for name in wanted if done.get(name) != wanted[name]]
    if "spark" in asked and shutil.which("java") is None:
        say("Spark also needs Java 17, and there is none here: apt install openjdk-17-jre-headless")
    if not missing:
        return
    _see_that_the_database_can_run()
    with tempfile.TemporaryDirectory(prefix="irt-uv-") as folder:
        say("fetching the installer …")
        uv, environment = _uv(Path(folder) / "venv")
        if not runs:
            _must([uv, "venv", "--quiet", "--clear", "--python", sys.executable, VENV], environment)
        for name in missing:
            say(f"installing {name} into .venv …")
            install = [uv, "pip", "install", "--python", PYTHON, "--no-config", "--no-deps"]
            install += ["--build-constraint", TOOLS]
            failed = _shown([*install, "--require-hashes", "--requirement", LOCKS / name], environment)
            extra = name.removeprefix("requirements-").removesuffix(".lock")
            if failed and extra in OPTIONAL:
                say(f"{name} cannot be installed, {OPTIONAL[extra]}\n{failed}")
                continue
            if failed:
                _fail(failed)
            if name == "requirements.lock":
                for ours in (ROOT / "packages" / "irt-psychometrics", ROOT):
                    _must([*install, "--quiet", "--editable", ours], environment)
            done[name] = wanted[name]
            READY.write_text(json.dumps(done), "utf-8")


def _lock_of(extra: str) -> Path:
    lock = LOCKS / (f"requirements-{extra}.lock" if extra else "requirements.lock")
    if not lock.exists():
        extras = sorted(
            p.name.removeprefix("requirements-").removesuffix(".lock") for p in LOCKS.glob("requirements-*")
        )
        sys.exit(f"there is no extra {extra}; there are {', '.join(e for e in extras if e != 'build')}")
    return lock


def _fingerprint(lock: Path) -> str:
    """Hash of the lock file and of pyproject.toml, in which an entry point of the package may have changed."""
    declared = [ROOT / "pyproject.toml", ROOT / "packages/irt-psychometrics/pyproject.toml"]
    return sha256(b"".join(path.read_bytes() for path in [lock, *declared])).hexdigest()


def _see_that_the_database_can_run() -> None:
    if os.environ.get("DATABASE_URL"):
        return
    home = Path(os.environ.get("IRT_HOME", ".irt")).absolute()
    if complaint := _ran([sys.executable, ROOT / "resources" / "postgres" / "server_account.py", VENV, home]):
        sys.exit(complaint)


def _uv(folder: Path) -> tuple[Path, dict[str, str]]:
    """uv, in an environment of its own, and the variables that it is to see."""
    if complaint := _ran([sys.executable, "-m", "venv", folder]):
        if "ensurepip" in complaint:
            sys.exit("python3 cannot make virtual environments here: apt install python3-venv, then the same command.")
        sys.exit(complaint)
    python = folder / "bin" / "python"
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    _must([*pip, "install", "--quiet", "--retries", "2", "--no-deps", "--require-hashes", "--requirement", TOOLS])
    listed = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, check=False).stdout
    environment = dict(os.environ)
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        values = str(literal_eval(value)).split()
        if name.endswith("find-links"):  # pip passes over those that are not there
            values = [place for place in values if "://" in place or Path(place).exists()]
        if values and (variable := HANDED_ON.get(name.rpartition(".")[2])):
            environment.setdefault(variable, (" " if variable == "UV_INDEX" else ",").join(values))
    return folder / "bin" / "uv", environment


def _shown(command: list[str | Path], environment: dict[str, str]) -> str:
    """Runs it, showing what it fetches. Returns what it said where it failed, else nothing."""
    said = []
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, errors="replace") as running:
        assert running.stderr is not None
        for line in running.stderr:
            said.append(line)
            if line.split(" ", 1)[0] in ("Downloading", "Building", "Prepared", "Installed"):
                say("  " + line.rstrip())
    return "".join(said).strip() if running.returncode else ""


def _ran(command: list[str | Path], environment: dict[str, str] | None = None) -> str:
    """Runs it. Returns what it said where it failed, else nothing."""
    try:
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        return str(error)
    return (ran.stdout + ran.stderr).strip() or "it says nothing" if ran.returncode else ""


def _must(command: list[str | Path], environment: dict[str, str] | None = None) -> None:
    if said := _ran(command, environment):
        _fail(said)


def _fail(said: str) -> NoReturn:
    unreachable = ("connection broken", "dns error", "error sending request", "Failed to fetch", "Failed to establish")
    if any(words in said for words in unreachable):
        sys.exit(
            "The package index cannot be reached: see to the network, or to pip's settings of index, proxy and "
            "certificate, then the same command again."
        )
    sys.exit(f"The installation failed; the same command goes on where it stopped.\n{said[-2000:]}")


def say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
