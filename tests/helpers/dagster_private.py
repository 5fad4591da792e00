"""Private parts of Dagster that tests alone use; those that the program uses are in `resources.dagster_compat`."""

# What the servers call to set up their logs, which ours replace; until `--log-format` can name ours.
from dagster._cli import api

# How a code server that is away fails; until `dagster` exports it as it does its other errors.
from dagster._core.errors import DagsterUserCodeUnreachableError

# Content of the events of a run that broke off; until `dagster` exports what `DagsterEvent` takes.
from dagster._core.events import EngineEventData, JobFailureData

# What chooses a run's loggers, which ours replace; until the instance's configuration can name one.
from dagster._core.execution import context_creation_job

# Where a stored state, run or backfill comes from; until a test can store one by the name of its location.
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteJobOrigin,
    RemotePartitionSetOrigin,
    RemoteRepositoryOrigin,
)

# The graph as the daemon sees it, with its automation sensor; until `dagster` evaluates one sensor of a location.
from dagster._core.remote_representation.external import RemoteRepository, RemoteSensor
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._core.remote_representation.handle import RepositoryHandle

# States and ticks as the daemon stores them; until `DagsterInstance` has a public call for them.
from dagster._core.scheduler.instigation import InstigatorStatus, SensorInstigatorData, TickData

# Tags that the daemon gives to a run that it repeats; until `dagster` exports them with `MAX_RUNTIME_SECONDS_TAG`.
from dagster._core.storage.tags import ROOT_RUN_ID_TAG, WILL_RETRY_TAG

# A run without a job, and Dagster's clock; until `dagster` exports what its own tests use.
from dagster._core.test_utils import create_run_for_test, freeze_time

# The id of a run that is not stored; until `dagster` exports it.
from dagster._core.utils import make_new_run_id

# The daemon and its parts, one turn at a time; until `dagster` can run one iteration of each.
from dagster._daemon import controller
from dagster._daemon.monitoring import run_monitoring
from dagster._daemon.monitoring.run_monitoring import check_run_timeout
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._daemon.types import DaemonHeartbeat

# Asks a code server and starts a run as it does; until `dagster` exports a client.
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
    """In a daemon: at backfills, and at sensors whatever interval they ask for; each look at a sensor is expensive.

    The queue and the health of runs have intervals of their own, in `dagster.yaml`.
    """
    controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 2  # of backfills
    RemoteSensor.min_interval_seconds = property(lambda _: 10)  # type: ignore[assignment,method-assign]
