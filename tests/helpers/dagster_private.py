"""Private parts of Dagster that tests alone use; those that the program uses are in `resources.dagster_compat`."""

from dagster._cli import api
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.events import EngineEventData, JobFailureData
from dagster._core.execution import context_creation_job
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteJobOrigin,
    RemotePartitionSetOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.remote_representation.external import RemoteRepository, RemoteSensor
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._core.remote_representation.handle import RepositoryHandle
from dagster._core.scheduler.instigation import InstigatorStatus, SensorInstigatorData, TickData
from dagster._core.storage.tags import ROOT_RUN_ID_TAG, WILL_RETRY_TAG
from dagster._core.test_utils import create_run_for_test, freeze_time
from dagster._core.utils import make_new_run_id
from dagster._daemon import controller
from dagster._daemon.monitoring import run_monitoring
from dagster._daemon.monitoring.run_monitoring import check_run_timeout
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._daemon.types import DaemonHeartbeat
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
