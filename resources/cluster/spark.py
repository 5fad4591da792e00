"""The Spark session of this process, if IRT_SPARK names a cluster: start, checks of the cluster, cancelling of jobs.

Spark is not imported before a session is requested. What does not belong here: the computations, and the meaning of
Spark's errors (see `spark_failures`).
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from resources.cluster.spark_executors import ExecutorPython, describe_this_python, folders_of_code, rows_of
from resources.cluster.spark_failures import explain_spark
from resources.failures import PermanentFailure, TransientFailure
from resources.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

INSTALL = "make spark"
INSTALL_JAVA = "apt install openjdk-17-jre-headless"
MIN_JAVA = 17
CONNECT_TIMEOUT_S = 5.0
DOCTOR_TIMEOUT_S = 1.0
CANCEL_TIMEOUT_S = 10.0
TASKS_PER_CORE = 2
"""Number of tasks per core in the job that reads every executor's versions."""

FIXED_PROPERTIES = {
    "spark.app.name": "irt-assets",
    "spark.sql.session.timeZone": "UTC",
    # A file that differs from its manifest ends the job; Spark could also skip it.
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.sql.files.ignoreMissingFiles": "false",
}
DEFAULT_PROPERTIES = {"spark.ui.showConsoleProgress": "false", "spark.log.level": "WARN"}
"""Properties that spark-defaults.conf may override."""
END_WITHOUT_MEMORY = "-XX:+ExitOnOutOfMemoryError"
"""Java option that ends a JVM that runs out of memory. Without it only one thread ends, such as the thread that
launches tasks, and a job waits forever."""
SMALLER_DRIVER = "-XX:+UseSerialGC"
"""Serial garbage collector for a driver that only coordinates executors: in a fit of 50 million answers its JVM takes
0.9 GB instead of 1.5 GB, in the same time. Java refuses a second collector."""
JAVA_VARIABLES = ("JDK_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS")

_lock = threading.Lock()
_sessions: dict[str, SparkSession] = {}


@dataclass(frozen=True)
class Application:
    """Spark's application of this process. `ui_url` is None under Spark Connect, which does not report it."""

    id: str | None
    ui_url: str | None


def spark_session(settings: Settings) -> SparkSession:
    """The session on the cluster of IRT_SPARK. Later calls return the same session, or a new one if it has ended.

    Raises PermanentFailure if pyspark or Java is missing, or if Spark or an executor has a different version;
    TransientFailure if the cluster does not respond.
    """
    assert settings.irt_spark is not None
    with _lock:
        session = _sessions.get(settings.irt_spark)
        if session is not None and _is_alive(session, settings.irt_spark):
            return session
        _stop_all()
        _require_spark(settings.irt_spark)
        session = _start_session(settings.irt_spark)
        try:
            refuse_another_version(session)
            if not settings.irt_spark.startswith("local"):
                refuse_other_packages(executors_report(session))
        except BaseException:
            _stop(session)
            raise
        _sessions[settings.irt_spark] = session
        return session


def started_session(settings: Settings) -> SparkSession | None:
    """The session that `spark_session` has started. Returns None if it has started no session, or if it has ended."""
    assert settings.irt_spark is not None
    with _lock:
        session = _sessions.get(settings.irt_spark)
        return session if session is not None and _is_alive(session, settings.irt_spark) else None


def stop_session() -> None:
    """End this process's session, if there is one, and release its executors."""
    with _lock:
        _stop_all()


def java_version() -> int | None:
    """The major version of the Java that Spark would start. Returns None if there is no Java."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    if java is None:
        return None
    try:
        output = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=True).stderr
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', output)
    return int(match[1]) if match else None


def missing_package(master: str) -> str | None:
    """The package that is missing on this machine for a session at `master`. Returns None if it has all packages."""
    needed = ["pyspark", "grpc_status"] if master.startswith("sc://") else ["pyspark"]
    return next((package for package in needed if find_spec(package) is None), None)


def _java_problem() -> str | None:
    version = java_version()
    if version is None:
        return "Java is missing"
    if version < MIN_JAVA:
        return f"Java is {version} (PATH, JAVA_HOME), but Spark needs {MIN_JAVA} or newer"
    return None


def addresses_of(master: str) -> list[tuple[str, int]]:
    """Host and port of each master, or of the Connect server; empty for local[…] and k8s://."""
    scheme, _, hosts = master.partition("://")
    default = {"spark": 7077, "sc": 15002}.get(scheme)
    if default is None:
        return []
    parts = [part.rpartition(":") for part in hosts.split("/")[0].split(",")]
    return [(host.strip("[]"), int(port)) if host else (port, default) for host, _, port in parts]


def master_unreachable(master: str, within_s: float = CONNECT_TIMEOUT_S) -> str | None:
    """The problem if no master or Connect server accepts a connection.

    Returns None if one of them does, or if `master` contains no address.
    """
    addresses = addresses_of(master)
    if not addresses or any(accepts_connection(host, port, within_s) for host, port in addresses):
        return None
    server = "Connect server" if master.startswith("sc://") else "master"
    locations = ", ".join(f"{host}:{port}" for host, port in addresses)
    return (
        f"no Spark {server} answers at {locations}: Check that it runs, that this host can reach it, and that "
        "IRT_SPARK is right."
    )


def accepts_connection(host: str, port: int, within_s: float) -> bool:
    """Whether a connection to the host and port is accepted within a number of seconds."""
    try:
        socket.create_connection((host, port), within_s).close()
    except OSError:
        return False
    return True


def _require_spark(master: str) -> None:
    if missing := missing_package(master):
        raise PermanentFailure(f"IRT_SPARK is set, but the package {missing} is missing: {INSTALL}")
    if not master.startswith("sc://") and (problem := _java_problem()):
        raise PermanentFailure(f"IRT_SPARK is set, but {problem}: {INSTALL_JAVA}")
    if silence := master_unreachable(master):  # else Spark itself would try for a minute
        raise TransientFailure(silence)


def _start_session(master: str) -> SparkSession:
    from pyspark.sql import SparkSession  # optional dependency

    logging.getLogger("SQLQueryContextLogger").setLevel(
        logging.CRITICAL
    )  # it would log the stack of every error, which the error contains too
    builder = SparkSession.builder
    if master.startswith("sc://"):
        builder = builder.remote(master)
        configured = {name: value for name, value in FIXED_PROPERTIES.items() if name.startswith("spark.sql.")}
    else:
        builder = builder.master(master)
        configured = _configuration(master)
    for name, value in configured.items():
        builder = builder.config(name, value)
    with _keep_interrupts():
        try:
            session: SparkSession = builder.getOrCreate()
        except Exception as error:
            _discard_gateway()
            if failure := explain_spark(error):
                raise failure from error
            [first_line, *_] = str(error).strip().splitlines() or [type(error).__name__]
            raise PermanentFailure(f"Spark does not start at {master}: {first_line}") from error
    if not is_remote(session) and _same_disks(master) and "PYSPARK_PYTHON" not in os.environ:
        session.sparkContext.pythonExec = sys.executable
    return session


def _configuration(master: str) -> dict[str, str]:
    set_by_file = _default_file_properties()
    configured = FIXED_PROPERTIES | {
        name: value for name, value in DEFAULT_PROPERTIES.items() if name not in set_by_file
    }
    folder = _configuration_folder()
    if "spark.driver.defaultJavaOptions" not in set_by_file:
        options = [END_WITHOUT_MEMORY]
        may_name_another = any("GC" in os.environ.get(name, "") for name in JAVA_VARIABLES)
        if not (master.startswith("local") or may_name_another or "spark.driver.extraJavaOptions" in set_by_file):
            options.append(SMALLER_DRIVER)
        if not (folder and (folder / "log4j2.properties").exists()):
            logged = Path(__file__).with_name("spark_log4j2.properties")
            options.append(f"-Dlog4j2.configurationFile={logged.as_uri()}")
        configured["spark.driver.defaultJavaOptions"] = " ".join(options)
    if _same_disks(master) and "spark.executorEnv.PYTHONPATH" not in set_by_file:
        paths = [*folders_of_code(), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        configured["spark.executorEnv.PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    return configured


def _same_disks(master: str) -> bool:
    """Whether executors see this machine's folders under the same paths, as is usual in Spark's own cluster."""
    return master.startswith(("local", "spark://"))


def _configuration_folder() -> Path | None:
    if folder := os.environ.get("SPARK_CONF_DIR"):
        return Path(folder)
    home = os.environ.get("SPARK_HOME")
    return Path(home, "conf") if home else None


def _default_file_properties() -> set[str]:
    """Names of the properties that spark-defaults.conf sets; Spark itself reads their values."""
    folder = _configuration_folder()
    defaults = folder / "spark-defaults.conf" if folder else None
    if defaults is None or not defaults.is_file():
        return set()
    lines = (line.strip() for line in defaults.read_text("utf-8").splitlines())
    return {re.split(r"[\s=:]", line, maxsplit=1)[0] for line in lines if line and not line.startswith("#")}


@contextmanager
def _keep_interrupts() -> Iterator[None]:
    """Restore the handler of SIGINT (Dagster's) after the block, because Spark installs its own."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and handler is not None:
            signal.signal(signal.SIGINT, handler)


def path_for_spark(uri: str) -> str:
    """A URI of the object store for Spark, which reads S3 through Hadoop's s3a."""
    return uri.replace("s3://", "s3a://", 1)


def is_remote(session: SparkSession) -> bool:
    """Whether the session is a client of Spark Connect, whose JVM this process cannot reach."""
    return type(session).__module__.startswith("pyspark.sql.connect")


def _is_alive(session: SparkSession, master: str) -> bool:
    try:
        if is_remote(session):
            return master_unreachable(master) is None and bool(session.version)
        context = session.sparkContext._jsc
        return context is not None and not context.sc().isStopped()
    except Exception:  # noqa: BLE001 - any error means that the session has ended
        return False


def _stop_all() -> None:
    for session in _sessions.values():
        _stop(session)
    _sessions.clear()


def _stop(session: SparkSession) -> None:
    with suppress(Exception), _keep_interrupts():
        session.stop()
    if not is_remote(session):
        _discard_gateway()


def _discard_gateway() -> None:
    """Discard pyspark's context and JVM after a failed start or a dead JVM; pyspark would reuse them."""
    from pyspark import SparkContext  # optional dependency
    from pyspark.sql import SparkSession

    if SparkContext._active_spark_context is not None:
        with suppress(Exception):
            SparkContext._active_spark_context.stop()
    gateway = SparkContext._gateway
    if gateway is not None:
        with suppress(Exception):
            gateway.shutdown()
        process = getattr(gateway, "proc", None)
        if process is not None:
            with suppress(Exception):
                process.stdin.close()  # this ends the JVM
                process.wait(CANCEL_TIMEOUT_S)
    SparkContext._active_spark_context = None
    SparkContext._gateway = SparkContext._jvm = None
    SparkSession._instantiatedSession = None


def refuse_another_version(session: SparkSession) -> None:
    """Raise PermanentFailure if the major version of the cluster, or of SPARK_HOME, differs from pyspark's."""
    import pyspark  # optional dependency

    cluster_version, own_version = session.version, pyspark.__version__
    if cluster_version.split(".")[0] != own_version.split(".")[0]:
        remedy = (
            "use a cluster of that version" if is_remote(session) else "unset SPARK_HOME, or set it to that version"
        )
        raise PermanentFailure(
            f"Spark is {cluster_version}, and this program works with Spark {own_version.split('.')[0]}: {remedy}"
        )


def application_of(session: SparkSession) -> Application:
    """The application's id and the address of its UI, for metadata of assets."""
    if not is_remote(session):
        return Application(session.sparkContext.applicationId, session.sparkContext.uiWebUrl)
    try:
        return Application(session.conf.get("spark.app.id", None), None)
    except Exception:  # noqa: BLE001 - missing metadata must not fail a run
        return Application(None, None)


def executors_report(session: SparkSession) -> list[ExecutorPython]:
    """The Python of each executor, read by a few tasks for every registered core."""
    last = session.range(1000).selectExpr("spark_partition_id() AS part").agg({"part": "max"}).collect()[0][0]
    tasks = TASKS_PER_CORE * (int(last) + 1)
    requests = session.range(0, tasks, 1, tasks).mapInArrow(
        rows_of, "host string, python string, versions string, cpu string"
    )
    try:
        rows = requests.distinct().collect()
    except Exception as error:
        if failure := explain_spark(error):
            raise failure from error
        raise
    return sorted(
        (ExecutorPython.of_row(row.asDict()) for row in rows), key=lambda executor: (executor.host, executor.python)
    )


def refuse_other_packages(report: list[ExecutorPython]) -> None:
    """Raise PermanentFailure if an executor's packages differ from this process's; the message names the executor.

    A different CPU is only logged as a warning.
    """
    driver = describe_this_python()
    for executor in report:
        executor.require(driver.versions)
        if executor.cpu != driver.cpu:
            log.warning(
                "the executor on %s has a different processor (%s, here %s): results may differ in the last digits",
                executor.host,
                executor.cpu,
                driver.cpu,
            )


def lost_executors(session: SparkSession) -> dict[str, str]:
    """The executors that a session has lost, each with the reason; always empty under Spark Connect."""
    if is_remote(session):
        return {}
    executors = session.sparkContext._jsc.sc().statusStore().executorList(False)
    known = [executors.apply(k) for k in range(executors.size())]
    return {
        executor.id(): executor.removeReason().get() if executor.removeReason().isDefined() else "unknown reason"
        for executor in known
        if not executor.isActive()
    }


@contextmanager
def spark_jobs(session: SparkSession, description: str) -> Iterator[None]:
    """Describe and, if needed, cancel the Spark jobs that this thread starts in the block.

    The jobs have `description` in Spark's UI. They are cancelled if an exception or an interrupt (Ctrl-C, Dagster's)
    ends the block. Errors of Spark are raised as the failures that `explain_spark` returns.
    """
    tag = f"irt-{uuid.uuid4().hex}"
    before: Any = None  # Spark's annotation omits that it may be None
    try:
        if is_remote(session):
            session.addTag(tag)
        else:
            before = session.sparkContext.getLocalProperty("spark.job.description")
            session.sparkContext.addJobTag(tag)  # tags of a session apply to one thread only
            session.sparkContext.setInterruptOnCancel(True)
            session.sparkContext.setJobDescription(description)
        with _cancel_on_interrupt(session, tag):
            yield
    except BaseException as error:
        cancel_jobs(session, tag)
        if interrupt := _find_interrupt(error):
            raise interrupt from None
        if failure := explain_spark(error):
            raise failure from error
        raise
    finally:
        with suppress(Exception):
            if is_remote(session):
                session.removeTag(tag)
            else:
                session.sparkContext.removeJobTag(tag)
                session.sparkContext.setJobDescription(before)


def cancel_jobs(session: SparkSession, tag: str) -> None:
    """Cancel the session's jobs that have a tag. Waits at most ten seconds for Spark."""

    def cancel() -> None:
        with suppress(Exception):  # a session that has ended has no jobs to cancel
            if is_remote(session):
                session.interruptTag(tag)
            else:
                session.sparkContext.cancelJobsWithTag(tag)

    # Each thread has its own connection to the JVM; this thread's may be in the middle of a response.
    thread = threading.Thread(target=cancel, daemon=True)
    thread.start()
    thread.join(CANCEL_TIMEOUT_S)


@contextmanager
def _cancel_on_interrupt(session: SparkSession, tag: str) -> Iterator[None]:
    """Cancel the jobs of a tag before an interrupt is handled: pyspark delays an interrupt until its job has ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers: dict[int, Any] = {
        number: handler for number in (signal.SIGINT, signal.SIGTERM) if callable(handler := signal.getsignal(number))
    }

    def cancel_then_handle(number: int, frame: FrameType | None) -> None:
        cancel_jobs(session, tag)
        _drop_connection(session)
        handlers[number](number, frame)

    for number in handlers:
        signal.signal(number, cancel_then_handle)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _find_interrupt(error: BaseException) -> BaseException | None:
    """The interrupt during which an error was raised. Returns None if there was no interrupt.

    A job that is cancelled because of an interrupt raises its own error.
    """
    cause: BaseException | None = error
    while cause is not None and isinstance(cause, Exception):
        cause = cause.__context__
    return cause


def _drop_connection(session: SparkSession) -> None:
    """Drop this thread's connection to the JVM, because the signal may have interrupted the reading of a response."""
    if is_remote(session):
        return
    with suppress(Exception):
        gateway = session.sparkContext._gateway
        connection = gateway._gateway_client.get_thread_connection() if gateway is not None else None
        if connection is not None:
            connection.socket = None
