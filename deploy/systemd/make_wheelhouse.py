"""`make wheelhouse`: build a folder with everything that install.sh needs on a machine without a network.

It contains the wheels of the lock files with checked hashes, our own wheel, units, templates and the installer, for
machines with this machine's Python and architecture. A second call fetches only missing files. Uses only the standard
library.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
LOCKS = ROOT / "requirements"
CODE = ("irt_assets", "jobs", "resources", "services", "pyproject.toml", "README.md")
LIBRARY = "packages/irt-psychometrics"
PROGRAMS = ("irt-as-service", "irt-end-workers", "irt-r-service", "generate_reports.sh", "calibrate_all.sh")
TOOLS = "requirements-build.lock"
EXTRAS = ("bayes", "files", "otel")
"""Extras in every wheelhouse: the engine pymc, the readers of Excel, SPSS and Stata, and traces."""
SOURCES = ("pyspark",)
"""Packages published only as source. install.sh builds them, from Python files, with the setuptools of TOOLS."""
SOURCE_DATE_EPOCH = "1577836800"
"""Fixed time, so that the same code always gives the same wheel."""


def main(folder: Path, extras: list[str]) -> None:
    wheels = folder / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    locks = [TOOLS, "requirements.lock", *(f"requirements-{extra}.lock" for extra in dict.fromkeys((*EXTRAS, *extras)))]
    for lock in locks:
        if not (LOCKS / lock).is_file():
            sys.exit(f"there is no {lock}: an extra has a lock file")
    with tempfile.TemporaryDirectory(prefix="irt-wheelhouse-") as temporary:
        work = Path(temporary)
        subprocess.run([sys.executable, "-m", "venv", work / "venv"], check=True)
        pip = [work / "venv/bin/python", "-m", "pip", "--disable-pip-version-check", "--quiet"]
        fetched = work / "wheels"
        fetched.mkdir()
        for wheel in _packages(wheels):  # pip checks their hashes as if it had downloaded them
            wheel.rename(fetched / wheel.name)
        downloaded = work / "kept"
        downloaded.mkdir()
        for lock in locks:
            hashed = ["--no-deps", "--require-hashes", "--only-binary=:all:", f"--no-binary={','.join(SOURCES)}"]
            hashed += ["--requirement", str(LOCKS / lock)]
            download = [*pip, "download", "--find-links", fetched, "--dest", downloaded, *hashed]
            if subprocess.run([*download, "--no-index"], capture_output=True, check=False).returncode:
                subprocess.run(download, check=True)
        subprocess.run([*pip, "install", "--require-hashes", "--requirement", str(LOCKS / TOOLS)], check=True)
        source, compiled = work / "source", shutil.ignore_patterns("__pycache__", "*.nb?", "build", "*.egg-info")
        source.mkdir()
        for name in CODE:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / name, ignore=compiled)
            else:
                shutil.copy(ROOT / name, source)
        library = shutil.copytree(ROOT / LIBRARY, work / "library", ignore=compiled)
        build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", downloaded, library, source]
        subprocess.run([*pip, *build], check=True, env={**os.environ, "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH})
        for wheel in _packages(downloaded):
            shutil.move(wheel, wheels / wheel.name)
    _copy_other_files(folder, locks)
    print(_write_sums(folder))  # noqa: T201 - the script's output


def _packages(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.whl"), *folder.glob("*.tar.gz")])


def _copy_other_files(folder: Path, locks: list[str]) -> None:
    for name in ("locks", "share", "libexec"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
    for lock in locks:
        shutil.copy(LOCKS / lock, folder / "locks")
    shutil.copytree(HERE / "units", folder / "share/units")
    shutil.copytree(HERE / "etc", folder / "share/etc")
    shutil.copytree(ROOT / "services/r_irt", folder / "share/r_irt")
    shutil.copy(ROOT / "irt_assets/engines/irt.R", folder / "share/r_irt")
    shutil.copytree(ROOT / "docs", folder / "share/doc", ignore=shutil.ignore_patterns("images", "*.py"))
    for program in PROGRAMS:
        shutil.copy(HERE / program, folder / "libexec")
    shutil.copy(HERE / "install.sh", folder)
    (folder / "python").write_text(f"{sys.version_info.major}.{sys.version_info.minor} {platform.machine()}\n", "ascii")


def _write_sums(folder: Path) -> str:
    """Write SHA256SUMS and the name of the release: version and hash of all hashes. Returns a summary to print."""
    sums = folder / "SHA256SUMS"
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in ("SHA256SUMS", "release"))
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n" for path in files]
    sums.write_text("".join(lines), "utf-8")
    (wheel,) = (folder / "wheels").glob("irt_assets-*.whl")
    release = f"{wheel.name.split('-')[1]}-{hashlib.sha256(sums.read_bytes()).hexdigest()[:12]}"
    (folder / "release").write_text(release + "\n", "ascii")
    return f"{folder}: release {release}, {len(files)} files"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
