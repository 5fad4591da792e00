"""Private parts of Dagster that only tests use. `resources.dagster_compat` has the parts that the program uses."""

# Functions that set up the servers' logs and that ours replace; until `--log-format` can name ours.
from dagster._cli import api

# Error of an unreachable code server; until `dagster` exports it like its other errors.
from dagster._core.errors import DagsterUserCodeUnreachableError

# Content of the events of an interrupted run; until `dagster` exports the arguments of `DagsterEvent`.
from dagster._core.events import EngineEventData, JobFailureData

# Function that chooses a run's loggers and that ours replaces; until the instance's configuration can name a logger.
from dagster._core.execution import context_creation_job

# Origin of a stored state, run or backfill; until a test can store these by the name of the location.
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteJobOrigin,
    RemotePartitionSetOrigin,
    RemoteRepositoryOrigin,
)

# The graph as the daemon loads it, with its automation sensor; until `dagster` evaluates one sensor of a location.
from dagster._core.remote_representation.external import RemoteRepository, RemoteSensor
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._core.remote_representation.handle import RepositoryHandle

# States and ticks as the daemon stores them; until `DagsterInstance` has a public call for them.
from dagster._core.scheduler.instigation import InstigatorStatus, SensorInstigatorData, TickData

# Tags of a run that the daemon repeats; until `dagster` exports them with `MAX_RUNTIME_SECONDS_TAG`.
from dagster._core.storage.tags import ROOT_RUN_ID_TAG, WILL_RETRY_TAG

# A run without a job, and Dagster's clock; until `dagster` exports the helpers of its own tests.
from dagster._core.test_utils import create_run_for_test, freeze_time

# The id of a run that is not stored; until `dagster` exports it.
from dagster._core.utils import make_new_run_id

# The daemon and its parts, one turn at a time; until `dagster` can run one iteration of each.
from dagster._daemon import controller
from dagster._daemon.monitoring import run_monitoring
from dagster._daemon.monitoring.run_monitoring import check_run_timeout
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._daemon.types import DaemonHeartbeat

# Client of a code server, and the start of a run in it; until `dagster` exports a client.
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import ExecuteRunArgs

__all__ = [
    "ROOT_RUN_ID_TAG",
    "WILL_RETRY_TAG",
    "DaemonHeartbeat",
    "DagsterGrpcClient",
    "DagsterUserCodeUnreachableError",
    "EngineEventData",
    "ExecuteRunArgs",
    "GrpcServerCodeLocationOrigin",
    "InstigatorStatus",
    "JobFailureData",
    "QueuedRunCoordinatorDaemon",
    "RegisteredCodeLocationOrigin",
    "RemoteInstigatorOrigin",
    "RemoteJobOrigin",
    "RemotePartitionSetOrigin",
    "RemoteRepository",
    "RemoteRepositoryOrigin",
    "RepositoryHandle",
    "RepositorySnap",
    "SensorInstigatorData",
    "TickData",
    "api",
    "check_run_timeout",
    "context_creation_job",
    "controller",
    "create_run_for_test",
    "freeze_time",
    "look_more_often",
    "make_new_run_id",
    "run_monitoring",
]


def look_more_often() -> None:
    """Let a daemon check backfills and sensors more often than their intervals, which is expensive for sensors.

    The queue and the health of runs have their own intervals, in `dagster.yaml`.
    """
    controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 2  # interval of backfills
    RemoteSensor.min_interval_seconds = property(lambda _: 10)  # type: ignore[assignment,method-assign]
