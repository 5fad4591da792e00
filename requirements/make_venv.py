"""Make `.venv` from the lock files: `python3 requirements/make_venv.py [EXTRA …]`, which `make` calls.

A repeated call installs only changed lock files, including the extras of earlier calls. The script runs before anything
is installed, so it uses only the standard library. pip installs uv into a temporary folder, and uv installs the
packages; both check the hashes of the lock files. uv does not read pip's configuration, so its index, certificates and
proxy are passed on.
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
"""File with the hash of each installed lock file."""
TOOLS = LOCKS / "requirements-build.lock"
"""Lock file of uv, and of the tools that build a package from its source."""
OPTIONAL = {
    "r": "so the engines mirt and brms are missing: apt install r-base-dev python3-dev, then run the same command again"
}
"""Optional extras, with the sentence that follows if their installation fails."""
INHERITED_VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "HTTPS_PROXY",
}
"""Settings of pip, and uv's variable for each."""


def main(extras: list[str]) -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 - an older one can start this
        sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 …")
    runs = VENV.exists() and _run([PYTHON, "-c", ""]) == ""
    done: dict[str, str] = json.loads(READY.read_text("utf-8") or "{}") if runs and READY.exists() else {}
    fingerprints = {lock.name: _fingerprint(lock) for lock in map(_lock_of, ["", *extras])}
    fingerprints |= {name: _fingerprint(LOCKS / name) for name in done if (LOCKS / name).exists()}
    outdated = [name for name in fingerprints if done.get(name) != fingerprints[name]]
    if "spark" in extras and shutil.which("java") is None:
        say("Spark also needs Java 17, which is missing: apt install openjdk-17-jre-headless")
    if not outdated:
        return
    _require_database_account()
    with tempfile.TemporaryDirectory(prefix="irt-uv-") as folder:
        say("fetching the installer …")
        uv, environment = _uv(Path(folder) / "venv")
        if not runs:
            _run_or_fail([uv, "venv", "--quiet", "--clear", "--python", sys.executable, VENV], environment)
        for name in outdated:
            say(f"installing {name} into .venv …")
            install = [uv, "pip", "install", "--python", PYTHON, "--no-config", "--no-deps"]
            install += ["--build-constraint", TOOLS]
            failed = _print_output([*install, "--require-hashes", "--requirement", LOCKS / name], environment)
            extra = name.removeprefix("requirements-").removesuffix(".lock")
            if failed and extra in OPTIONAL:
                say(f"{name} cannot be installed, {OPTIONAL[extra]}\n{failed}")
                continue
            if failed:
                _fail(failed)
            if name == "requirements.lock":
                for project in (ROOT / "packages" / "irt-psychometrics", ROOT):
                    _run_or_fail([*install, "--quiet", "--editable", project], environment)
            done[name] = fingerprints[name]
            READY.write_text(json.dumps(done), "utf-8")


def _lock_of(extra: str) -> Path:
    lock = LOCKS / (f"requirements-{extra}.lock" if extra else "requirements.lock")
    if not lock.exists():
        extras = sorted(
            p.name.removeprefix("requirements-").removesuffix(".lock") for p in LOCKS.glob("requirements-*")
        )
        sys.exit(f"there is no extra {extra}: use one of {', '.join(e for e in extras if e != 'build')}")
    return lock


def _fingerprint(lock: Path) -> str:
    """Hash of a lock file and of our packages' declarations, because an entry point may have changed."""
    declared = [ROOT / "pyproject.toml", ROOT / "packages/irt-psychometrics/pyproject.toml"]
    return sha256(b"".join(path.read_bytes() for path in [lock, *declared])).hexdigest()


def _require_database_account() -> None:
    if os.environ.get("DATABASE_URL"):
        return
    home = Path(os.environ.get("IRT_HOME", ".irt")).absolute()
    if complaint := _run([sys.executable, ROOT / "resources" / "postgres" / "server_account.py", VENV, home]):
        sys.exit(complaint)


def _uv(folder: Path) -> tuple[Path, dict[str, str]]:
    """Install uv in a separate environment. Returns its path and its environment variables."""
    if complaint := _run([sys.executable, "-m", "venv", folder]):
        if "ensurepip" in complaint:
            sys.exit(
                "python3 cannot create virtual environments here: apt install python3-venv, then run the same command "
                "again."
            )
        sys.exit(complaint)
    python = folder / "bin" / "python"
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    _run_or_fail(
        [*pip, "install", "--quiet", "--retries", "2", "--no-deps", "--require-hashes", "--requirement", TOOLS]
    )
    listed = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, check=False).stdout
    environment = dict(os.environ)
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        values = str(literal_eval(value)).split()
        if name.endswith("find-links"):  # pip ignores missing folders
            values = [source for source in values if "://" in source or Path(source).exists()]
        if values and (variable := INHERITED_VARIABLES.get(name.rpartition(".")[2])):
            environment.setdefault(variable, (" " if variable == "UV_INDEX" else ",").join(values))
    return folder / "bin" / "uv", environment


def _print_output(command: list[str | Path], environment: dict[str, str]) -> str:
    """Run a command, and print what it fetches. Returns its output if it failed, else an empty text."""
    lines = []
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, errors="replace") as running:
        assert running.stderr is not None
        for line in running.stderr:
            lines.append(line)
            if line.split(" ", 1)[0] in ("Downloading", "Building", "Prepared", "Installed"):
                say("  " + line.rstrip())
    return "".join(lines).strip() if running.returncode else ""


def _run(command: list[str | Path], environment: dict[str, str] | None = None) -> str:
    """Run a command. Returns its output if it failed, else an empty text."""
    try:
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        return str(error)
    return (ran.stdout + ran.stderr).strip() or "no output" if ran.returncode else ""


def _run_or_fail(command: list[str | Path], environment: dict[str, str] | None = None) -> None:
    if message := _run(command, environment):
        _fail(message)


def _fail(message: str) -> NoReturn:
    unreachable = ("connection broken", "dns error", "error sending request", "Failed to fetch", "Failed to establish")
    if any(words in message for words in unreachable):
        sys.exit(
            "The package index cannot be reached: check the network, and pip's settings of index, proxy and "
            "certificate, then run the same command again."
        )
    sys.exit(f"The installation failed; the same command continues where it stopped.\n{message[-2000:]}")


def say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
