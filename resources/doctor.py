"""`irt doctor`: missing packages, unreachable servers and wrong settings, with the remedies.

It starts nothing, leaves nothing behind and prints no password. What does not belong here: whether calibrations are
sound (see `irt status`).
"""

import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from importlib import metadata
from pathlib import Path
from typing import Literal

import psycopg
import requests

from resources.alerts import notifier
from resources.cluster import spark
from resources.failures import PermanentFailure, TransientFailure
from resources.files.object_store import BucketStore, FolderStore, object_store
from resources.files.typesetting import pdf_problem
from resources.postgres.database import Database, embedded_postgres
from resources.postgres.foreign_schemas import describe_foreign_relations
from resources.postgres.form_names import CLASH_FIX, clashing_names
from resources.postgres.log_months import missing_months_ahead
from resources.postgres.schema import drift
from resources.postgres.schema_version import schema_version
from resources.serving import traces
from resources.serving.logs import hide
from resources.settings import Settings, configured_names, known_names
from resources.version import installed_version, way_to_install

MIN_POSTGRES = 15
GIB = 2**30
APT = "apt install"
LIBRARY_PREFIXES = {
    "AWS_": "boto3",
    "OTEL_": "OpenTelemetry",
    "SPARK_": "Spark",
    "PYSPARK_": "Spark",
    "JAVA_HOME": "Spark",
}
"""Prefixes of variables that a library reads itself."""
MAX_SKEW_S = 30.0
"""Largest difference in seconds between this machine's clock and the database's; tokens are allowed as much."""


@dataclass(frozen=True)
class Finding:
    """The result of one check. The state `absent` means missing, but not needed by this configuration."""

    subject: str
    state: Literal["ok", "warn", "error", "absent"]
    detail: str
    fix: str = ""


def diagnose(settings: Settings, engines: Iterable[Finding] = ()) -> list[Finding]:
    """All findings, in the order of repair, without passwords. `engines`: the findings on engines."""
    findings = [
        *_python(metadata.requires("irt-assets") or []),
        *_names(settings),
        *_home(settings),
        *_database(settings),
        *_store(settings),
        *_dagster(settings),
        *_alerts(settings),
        *_traces(settings),
        *_spark(settings),
        *engines,
        *_typesetting(),
    ]
    hidden = [replace(finding, detail=hide(finding.detail), fix=hide(finding.fix)) for finding in findings]
    return [*hidden, *_debian_packages(hidden)]


def _debian_packages(findings: list[Finding]) -> Iterator[Finding]:
    """One command that installs every missing Debian package."""
    fixes = {finding.fix for finding in findings if finding.fix.startswith(APT)}
    names = sorted({package for fix in fixes for package in fix.removeprefix(APT).split()})
    if len(fixes) > 1:
        yield Finding("Debian packages", "absent", f"{len(names)} of the above", f"{APT} {' '.join(names)}")


def _python(requirements: Iterable[str]) -> Iterator[Finding]:
    """Python, and whether every required package is installed; extras have separate findings."""
    yield Finding("Python", "ok", platform.python_version())
    names = [re.split(r"[^\w.-]", line)[0] for line in requirements if "extra ==" not in line]
    versions = {name: installed_version(name) for name in names}
    if missing := [name for name, version in versions.items() if version is None]:
        yield Finding("packages", "error", f"missing: {', '.join(missing)}", way_to_install())
    else:
        yield Finding("packages", "ok", ", ".join(f"{name} {version}" for name, version in versions.items()))


def _names(settings: Settings) -> Iterator[Finding]:
    """Settings that nothing reads. Everywhere else a misspelt setting is silently ignored."""
    known_variables = known_names()
    for name, source in sorted(configured_names(settings).items()):
        library = next((reader for prefix, reader in LIBRARY_PREFIXES.items() if name.startswith(prefix)), None)
        if library and name not in known_variables:
            if name not in os.environ:
                fix = (
                    "Export it, or name the file as EnvironmentFile of the service: "
                    f"{library} reads only the environment."
                )
                yield Finding(name, "warn", f"set in {source}, but not in the environment", fix)
        elif name not in known_variables:
            near = get_close_matches(name, known_variables, 1)
            yield Finding(
                name, "warn", f"set in {source}, but it is not a setting", f"Did you mean {near[0]}?" if near else ""
            )
    env_file = os.environ.get("IRT_ENV_FILE")
    if env_file and not Path(env_file).is_file():
        yield Finding("IRT_ENV_FILE", "error", f"{env_file} is not a file", "Create it, or unset IRT_ENV_FILE.")


def _home(settings: Settings) -> Iterator[Finding]:
    home = settings.irt_home
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        yield Finding(
            "IRT_HOME", "error", f"{existing} cannot be written", "Set IRT_HOME to a folder you may write to."
        )
        return
    yield (
        Finding("IRT_HOME", "ok", str(home))
        if home.exists()
        else Finding("IRT_HOME", "absent", f"{home}: made at first use")
    )
    yield _disk_space(existing, shutil.disk_usage(existing).free)


def _disk_space(folder: Path, free: int) -> Finding:
    detail = f"{free / GIB:.1f} GiB free at {folder}"
    if free >= 5 * GIB:
        return Finding("disk space", "ok", detail)
    state: Literal["warn", "error"] = "warn" if free >= GIB else "error"
    return Finding("disk space", state, detail, "Make room, or set IRT_HOME to a larger disk.")


def _database(settings: Settings) -> Iterator[Finding]:
    subject = "database"
    if settings.database_url is None:
        try:
            server = embedded_postgres(settings)
            status = server.status()
        except PermanentFailure as error:
            yield Finding(subject, "error", str(error))
            return
        if status.state != "running" or status.url is None:
            wording = {"absent": "made at first use", "stopped": "stopped, started at first use", "running": "starting"}
            yield Finding(subject, "absent", f"embedded PostgreSQL in {server.folder}: {wording[status.state]}")
            return
    database = Database(settings)
    try:
        url = database.url
        with database.connect() as connection:
            number = connection.info.server_version
            [(server_time, read_only)] = connection.execute(
                "SELECT extract(epoch FROM clock_timestamp())::float8, current_setting('transaction_read_only')"
            ).fetchall()
            ahead_s = time.time() - server_time
    except (PermanentFailure, TransientFailure) as error:
        yield Finding(subject, "error", str(error), "Set DATABASE_URL=postgresql://user:password@host:5432/database.")
        return
    except psycopg.Error as error:
        fix = "Check DATABASE_URL, and that the server runs and accepts this host."
        yield Finding(subject, "error", f"{url}: {error}".strip(), fix)
        return
    kind = "embedded" if settings.database_url is None else "external"
    version = f"PostgreSQL {number // 10000}.{number % 10000}"
    if number < MIN_POSTGRES * 10000:
        yield Finding(subject, "error", f"{version} at {url}", f"Use PostgreSQL {MIN_POSTGRES} or later.")
        return
    yield Finding(subject, "ok", f"{kind} {version} at {url}")
    if abs(ahead_s) > MAX_SKEW_S:
        is_wrong = f"this machine's is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the database's"
        yield Finding("clock", "error", is_wrong, "Set both by NTP: timedatectl shows whether this one is.")
    if read_only == "on":
        fix = "Wait until it takes over, or set DATABASE_URL to the primary."
        yield Finding(subject, "error", "it is read-only, as a standby", fix)
        return
    yield from _schema(database)


def _schema(database: Database) -> Iterator[Finding]:
    version = schema_version(database)
    current = version.revision
    if version.fault:
        yield Finding("schema", "warn" if version.can_be_upgraded else "error", *version.fault.rsplit(": ", 1))
    elif version.is_newer:
        yield Finding("schema", "ok", f"{current}, newer than this code but compatible with it")
    elif differences := drift(database):
        fix = "Undo the manual change, or move it into a migration."
        yield Finding("schema", "warn", f"{current}, but " + "; ".join(differences), fix)
    else:
        yield Finding("schema", "ok", f"{current}, the newest")
    if foreign := list(describe_foreign_relations(database)):
        fix = 'Read ours: psql "$(irt db url)", or make views of them: irt db views --in SCHEMA'
        yield Finding("tables of our names", "warn", "; ".join(foreign), fix)
    if current and not version.fault:
        yield from _log(database)


def _log(database: Database) -> Iterator[Finding]:
    """Check whether the log accepts answers of the next months, and whether names of forms clash."""
    with database.connect() as connection:
        missing = ", ".join(missing_months_ahead(connection, datetime.now(UTC)))
    if missing:
        detail = f"response_log has no partition for {missing}: an INSERT of an answer of that time fails"
        yield Finding("log", "warn", detail, "irt db upgrade")
    else:
        yield Finding("log", "ok", "response_log accepts answers of this month and the next two")
    if names := ", ".join(database.call(clashing_names)):
        yield Finding("names of forms", "warn", f"both forms and adaptive tests: {names}", CLASH_FIX)


def _store(settings: Settings) -> Iterator[Finding]:
    """Try all operations on the store that the platform needs, and whether strangers can read it."""
    subject = "object store"
    key, content = f"doctor-{uuid.uuid4().hex}", b"written by irt doctor"
    try:
        store = object_store(settings)
        if isinstance(store, FolderStore) and not store.root.exists():
            yield Finding(subject, "absent", f"{store.root}: made at first use")
            return
        uri = store.put(key, content)
        try:
            is_equal = store.get(key) == content
            next(store.list("doctor"), None)
            store.drop_unfinished("doctor", datetime.now(UTC), dry_run=True)
            open_to_all = isinstance(store, BucketStore) and _anybody_reads(store.link(key))
        finally:
            store.delete(key)
    except (PermanentFailure, TransientFailure) as error:
        yield Finding(subject, "error", str(error))
        return
    location = uri.removesuffix(key)
    if not is_equal:
        yield Finding(subject, "error", f"{location} returns other bytes than were written")
    elif open_to_all:
        fix = "Block public access to the bucket, and remove its policy's grants to everyone."
        yield Finding(subject, "error", f"{location}: anyone can read it, without credentials", fix)
    else:
        yield Finding(subject, "ok", f"{location} can be written and read")


def _anybody_reads(link: str) -> bool:
    """Whether a link works without its signature."""
    try:
        with requests.get(link.partition("?")[0], timeout=10, stream=True) as answer:
            return answer.ok
    except requests.RequestException:
        return False


def _dagster(settings: Settings) -> Iterator[Finding]:
    home = settings.irt_home / "dagster"
    other = os.environ.get("DAGSTER_HOME")
    if other and Path(other).absolute() != home:
        fix = f"For Dagster's own commands: export DAGSTER_HOME={home}"
        yield Finding("DAGSTER_HOME", "warn", f"{other}, but irt uses {home}", fix)
    elif home.exists():
        yield Finding("DAGSTER_HOME", "ok", str(home))
    else:
        yield Finding("DAGSTER_HOME", "absent", f"{home}: made at first use")


def _alerts(settings: Settings) -> Iterator[Finding]:
    names, wrong = ", ".join(notifier.channels(settings)), notifier.problems(settings)
    if wrong:
        yield Finding("alerts", "error", "; ".join(wrong), "Correct the setting, or unset it.")
    elif names:
        yield Finding("alerts", "ok", f"they go to {names}")
    else:
        yield Finding("alerts", "absent", "failures alert nobody", "Set ALERT_EMAIL or SLACK_WEBHOOK_URL.")


def _traces(settings: Settings) -> Iterator[Finding]:
    endpoint = settings.otel_exporter_otlp_endpoint
    if not endpoint:
        yield Finding("traces", "absent", "no traces are sent", "Set OTEL_EXPORTER_OTLP_ENDPOINT to an OTLP receiver.")
    elif installed_version(traces.PACKAGE) is None:
        missing = f"OTEL_EXPORTER_OTLP_ENDPOINT is set, but {traces.PACKAGE} is missing"
        yield Finding("traces", "warn", missing, way_to_install("otel"))
    else:
        yield Finding("traces", "ok", f"they go to {endpoint}")


def _spark(settings: Settings) -> Iterator[Finding]:
    """Check that a Spark session could start. Starts no session; a session that lacks Java reports that itself."""
    subject, master = "Spark", settings.irt_spark
    if master is None:
        yield Finding(subject, "absent", "the log is read in PostgreSQL")
    elif missing := spark.missing_package(master):
        yield Finding(subject, "error", f"the package {missing} is missing", spark.INSTALL)
    elif settings.irt_attempts is None:
        fix = "Set it to the folder or s3:// URL of a lake (irt attempts export)."
        yield Finding(subject, "error", "IRT_SPARK is set, but IRT_ATTEMPTS is not", fix)
    elif silence := spark.master_unreachable(master, spark.DOCTOR_TIMEOUT_S):
        yield Finding(subject, "error", *silence.rsplit(": ", 1))
    else:
        yield Finding(subject, "ok", f"pyspark {installed_version('pyspark')} at {master}")


def _typesetting() -> Iterator[Finding]:
    """Typst, which makes PDFs of reports; HTML does not need it."""
    if problem := pdf_problem():
        yield Finding("PDF reports", "warn", *problem.rsplit(": ", 1))
    else:
        yield Finding("PDF reports", "ok", f"Typst {installed_version('typst')}, with fonts for English and Korean")
