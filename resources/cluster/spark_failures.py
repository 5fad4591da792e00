"""The meaning of Spark's errors: whether they are transient, and which setting or file to change.

Spark passes most errors on as the text of a Java exception with its causes, so they are recognised by their text.
"""

import re
import sys
from traceback import walk_tb
from typing import NamedTuple

from resources.failures import PermanentFailure, TransientFailure

Failure = PermanentFailure | TransientFailure

CONFIGURE = "in spark-defaults.conf, in the folder that SPARK_CONF_DIR names"
MEMORY = f"set spark.executor.memory higher (spark.driver.memory if IRT_SPARK is local[…]) {CONFIGURE}"
PACKAGE = (
    "its Python has to import irt_assets: install the same wheel there (PYSPARK_PYTHON names that Python), or let it "
    "read the folders of this machine"
)
LAKE = "write that file again (`irt attempts export` writes a day of the log)"
OWN_FAILURES = ("PermanentFailure", "TransientFailure", "PsychometricsError", "LinkingError", "EngineFailure")
"""Failures that our own code raises on an executor."""
LOST_CONNECTIONS = ("Py4JNetworkError", "ConnectionRefusedError", "ConnectionResetError")
NO_ANSWER = re.compile(r"An error occurred while calling \S+")
"""py4j's whole message if the JVM does not respond; otherwise a Java exception follows it."""
PYTHON_ERROR = re.compile(r"^(?P<type>[A-Za-z_][\w.]*(?:Error|Failure|Exception)): (?P<message>.*)", re.M | re.S)
JAVA_PART = re.compile(r"\n+(?:\s+at |Driver stacktrace|JVM stacktrace|\s*Caused by)")


class Meaning(NamedTuple):
    """The meaning of an error of Spark.

    Attributes:
        words: regular expression that finds the error's text.
        sentence: our message, which may name groups of `words`.
    """

    words: str
    kind: type[Failure]
    sentence: str


READ_FAILURE = r"FAILED_READ_FILE\.{0}\].*?(?:reading|read) file (?P<file>\S+?)\.?\s"
MEANINGS = [
    Meaning(
        READ_FAILURE.format("PARQUET_COLUMN_DATA_TYPE_MISMATCH")
        + r".*?column \[(?P<column>.*?)\]. Expected Spark type (?P<expected>[\w()<>, ]+), "
        + r"actual Parquet type (?P<actual>\w+)",
        PermanentFailure,
        f"{{file}}: the column {{column}} has the type {{actual}} instead of {{expected}}: {LAKE}",
    ),
    Meaning(
        READ_FAILURE.format("FILE_NOT_EXIST"),
        PermanentFailure,
        f"{{file}} is missing, but a manifest or a table names it: {LAKE}",
    ),
    Meaning(
        READ_FAILURE.format(r"\w+"),
        PermanentFailure,
        f"{{file}} cannot be read: it is truncated, damaged or not a Parquet file. Remedy: {LAKE}",
    ),
    Meaning(
        r"PATH_NOT_FOUND\] Path does not exist: (?P<path>\S+?)\.?\s",
        PermanentFailure,
        "there is nothing at {path}: check IRT_ATTEMPTS, and that the cluster can read the same folders",
    ),
    Meaning(
        r"TABLE_OR_VIEW_NOT_FOUND\] The table or view (?P<table>\S+)",
        PermanentFailure,
        "Spark's catalogue has no table {table}: check IRT_ATTEMPTS, and the catalogue of spark-defaults.conf",
    ),
    Meaning(
        r"UNABLE_TO_INFER_SCHEMA",
        PermanentFailure,
        "the location in IRT_ATTEMPTS has no Parquet file: set it to the lake's folder, or fill the lake "
        "(`irt attempts export`)",
    ),
    Meaning(
        r'No FileSystem for scheme "(?P<scheme>\w+)"|Class (?P<class>org\.apache\.hadoop\.fs\.s3a\.\w+) not found',
        PermanentFailure,
        "Spark cannot read this kind of address: for s3:// set spark.jars.packages "
        "org.apache.hadoop:hadoop-aws:3.4.1 and spark.hadoop.fs.s3.impl org.apache.hadoop.fs.s3a.S3AFileSystem "
        f"{CONFIGURE}",
    ),
    Meaning(
        r"Status Code: 403|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|NoAuthWithAWSException",
        PermanentFailure,
        "the object store refuses Spark: give its executors credentials of a user that may read the bucket",
    ),
    Meaning(
        r"bigger than (?:spark\.driver\.maxResultSize|local maxResultSize)",
        PermanentFailure,
        "a result is larger than the driver accepts: set spark.driver.maxResultSize and spark.driver.memory higher "
        f"{CONFIGURE}",
    ),
    Meaning(
        r"No space left on device|DISK_FULL|Disk quota exceeded",
        PermanentFailure,
        "a disk of the cluster is full: make room, or set spark.local.dir (workers: SPARK_LOCAL_DIRS) to a larger one",
    ),
    Meaning(
        r"PYTHON_VERSION_MISMATCH|Python in worker has different version.*?(?P<worker>[\d.]+)",
        PermanentFailure,
        "an executor's Python has another version than this process's: install the same version there, and set "
        "PYSPARK_PYTHON to its path",
    ),
    Meaning(
        r'Cannot run program "(?P<program>[^"]+)"',
        PermanentFailure,
        "an executor has no Python at {program}: set PYSPARK_PYTHON to its path on the cluster's hosts",
    ),
    Meaning(
        r"(?:^|\n)(?:MemoryError|numpy\.[\w.]*ArrayMemoryError|pyarrow\.[\w.]*ArrowMemoryError)\b",
        PermanentFailure,
        "the Python of an executor got no memory for its share of the answers: set spark.executor.pyspark.memory "
        f"higher or, if it is not set, spark.executor.memoryOverhead {CONFIGURE}, or give the machine more memory",
    ),
    Meaning(
        r"Could not find/load shared object file|failed to map segment from shared object|LLVM ERROR: out of memory",
        PermanentFailure,
        "the Python of an executor cannot load numba, usually because spark.executor.pyspark.memory leaves it less "
        f"than 1g: set it higher {CONFIGURE}, and check that `import numba` works on the cluster's hosts",
    ),
    Meaning(
        r"OutOfMemoryError|SparkOutOfMemoryError|UNABLE_TO_ACQUIRE_MEMORY"
        r"|(?:exit|exited with) code:? (?:52|137)\b"
        r"|exceeding memory limits|OOMKilled|container (?:was )?killed.*?memory",
        PermanentFailure,
        f"an executor ran out of memory: {MEMORY}",
    ),
    Meaning(
        r"ExecutorLostFailure|Max number of executor failures|FetchFailed.*?has failed the maximum allowable",
        PermanentFailure,
        "a task's executors were lost repeatedly, usually because they had too little memory. See their logs, and "
        f"{MEMORY}",
    ),
    Meaning(
        r"Python worker exited unexpectedly",
        PermanentFailure,
        "a Python process of an executor was killed, usually because memory ran out: set "
        f"spark.executor.memoryOverhead (memory outside Java's) higher {CONFIGURE}, or give the machine more memory",
    ),
    Meaning(
        r"All masters are unresponsive|Master removed our application|stopped SparkContext|SparkContext was shut down"
        r"|SparkContext has been shut ?down|Disconnected from Spark cluster|SESSION_CHANGED|SESSION_NOT_FOUND"
        r"|SESSION_CLOSED|OPERATION_NOT_FOUND",
        TransientFailure,
        "the Spark application has ended, because its master or its driver ended: the next attempt starts a new one. "
        "Check that the cluster runs, and runs Spark 4.0: a master of another version does not answer",
    ),
    Meaning(
        r"StatusCode\.UNAVAILABLE|<_MultiThreadedRendezvous|RETRIES_EXCEEDED|UNAVAILABLE: ",
        TransientFailure,
        "the Spark Connect server no longer answers: check that it runs",
    ),
    Meaning(
        r"JAVA_GATEWAY_EXITED",
        PermanentFailure,
        "Java ended while Spark started: see the log, spark-defaults.conf and JAVA_HOME",
    ),
    Meaning(
        r"InvalidClassException|RpcEndpointNotFoundException|local class incompatible",
        PermanentFailure,
        "the cluster runs another version of Spark than this program's pyspark: use a cluster of that version",
    ),
]


def explain_spark(error: BaseException) -> Failure | None:
    """Our failure for an error of Spark. Returns None for other errors, and for bugs in the program.

    This does not import Spark.
    """
    if "pyspark" not in sys.modules or not _is_from_spark(error):
        return None
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - py4j reads the text from the JVM, which may be dead
        text = "stopped SparkContext"
    if type(error).__name__ in LOST_CONNECTIONS or (type(error).__name__ == "Py4JError" and NO_ANSWER.fullmatch(text)):
        return TransientFailure(
            "the Java process of the Spark driver has ended, usually because memory ran out: the next attempt starts a "
            f"new one; if it ends again, set spark.driver.memory higher {CONFIGURE}"
        )
    if type(error).__name__ == "PythonException" and (failure := _python_failure(text)):
        return failure
    for meaning in MEANINGS:
        if match := re.search(meaning.words, f"{text}\n", re.DOTALL):
            return meaning.kind(f"{meaning.sentence.format(**match.groupdict())}\nSpark: {_key_line(text)}")
    return None


def _is_from_spark(error: BaseException) -> bool:
    module = type(error).__module__
    if module.startswith(("pyspark.", "py4j.")) or module == "grpc._channel":
        return True
    return isinstance(error, ConnectionError) and any(
        frame.f_globals.get("__name__", "").startswith("py4j") for frame, _ in walk_tb(error.__traceback__)
    )


def _python_failure(text: str) -> Failure | None:
    """The failure of a function that ran on an executor."""
    errors = [*PYTHON_ERROR.finditer(JAVA_PART.split(text, maxsplit=1)[0])]
    if not errors:
        return None
    name, message = errors[-1]["type"].rpartition(".")[2], errors[-1]["message"].strip()
    if name == "ModuleNotFoundError":
        return PermanentFailure(f"an executor lacks a Python package ({message}): {PACKAGE}")
    if name in OWN_FAILURES:
        kind = TransientFailure if name == "TransientFailure" else PermanentFailure
        return kind(message)
    return None


def _key_line(text: str) -> str:
    """The most informative line of a Java exception with its stack, at most 300 characters."""
    lines = [line.strip() for line in text.splitlines() if not line.lstrip().startswith(("at ", "..."))]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    informative = [line for line in lines if line and not line.startswith("An error occurred while calling")]
    return next(iter(causes[-1:] or informative), "").removeprefix(": ")[:300]
