"""Probes of servers. Each returns None if the server is healthy, else the reason why it is not.

They are fast and do not import Dagster or numerical code, because monitors call them often.
"""

import time
from collections.abc import Mapping

import psycopg

from resources.dagster_tables import heartbeats
from resources.failures import PermanentFailure, explain, root_cause
from resources.postgres.database import Database
from resources.postgres.schema_version import schema_version
from resources.serving.service_manager import TIMEOUT_S

SILENT_S = 180.0
"""Time without a heartbeat after which a daemon counts as dead. It sends one every 30 s; Dagster waits half an hour."""
DAEMONS = (
    "ASSET",
    "BACKFILL",
    "EVENT_LOG_CONSUMER",
    "FRESHNESS_DAEMON",
    "MONITORING",
    "QUEUED_RUN_COORDINATOR",
    "SCHEDULER",
    "SENSOR",
)
"""The parts of Dagster's daemon with our dagster.yaml (`instance.get_required_daemon_types()`)."""


def schema(database: Database) -> str | None:
    """Probe of the database: it responds, and this code works with its schema."""
    try:
        return schema_version(database).fault
    except (psycopg.Error, PermanentFailure) as error:
        return explain(error) or str(error)


def webserver(address: str) -> str | None:
    """Probe of the Dagster UI at `address`. It reads Dagster's version, because every path responds with status 200."""
    from resources.serving.own_servers import ask  # imports requests; only this probe needs it

    try:
        with ask(f"{address}/server_info", TIMEOUT_S) as answer:
            answer.raise_for_status()
            answer.json()["dagster_webserver_version"]
    except (OSError, KeyError) as error:
        return f"no Dagster UI answers at {address} ({root_cause(error)})"
    return None


def daemon(database: Database, since: float = 0.0) -> str | None:
    """Probe of the daemon: each part has sent a heartbeat within SILENT_S and after `since` (Unix time, seconds)."""
    try:
        beats = database.call(heartbeats)
    except psycopg.errors.UndefinedTable:
        beats = {}
    except (psycopg.Error, PermanentFailure) as error:
        return explain(error) or str(error)
    return daemon_silence(beats, since)


def daemon_silence(beats: Mapping[str, float], since: float = 0.0) -> str | None:
    """The reason why the daemon counts as dead, from the last heartbeat of each part. None if it is alive.

    Heartbeats before `since` do not count.
    """
    now = time.time()
    if any(beat > now + SILENT_S for beat in beats.values()):
        return "the daemon's last heartbeat is ahead of the clock, which was set back: start the daemon again"
    silent = [name for name in DAEMONS if beats.get(name, 0.0) < max(now - SILENT_S, since)]
    if not silent:
        return None
    parts = "the daemon" if len(silent) == len(DAEMONS) else f"{', '.join(silent)} of the daemon"
    return f"{parts} sent no heartbeat in the last three minutes"


def code_server(address: str) -> str | None:
    """Probe of the code server at `unix:PATH` or HOST:PORT."""
    import grpc  # only this probe needs it
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service="DagsterApi"), timeout=TIMEOUT_S
            )
        except grpc.RpcError as error:
            return f"no code server answers at {address.removeprefix('unix:')} ({error.code().name.lower()})"
    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
    return None if serving else f"the code server at {address.removeprefix('unix:')} is not serving"
