"""The environment of Dagster's processes: the places of their configuration, storage, logs and socket.

This module does not import Dagster, which takes seconds.
"""

import fcntl
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.settings import Settings, private_home

CONFIGURATION = Path(__file__).parents[1] / "dagster.yaml"
VARIANTS = Path(__file__).parents[1] / "dagster-variants.yaml"
"""Overrides of dagster.yaml for a cluster and for a bucket."""
WORKSPACE = Path(__file__).parents[1] / "workspace.yaml"
WORKSPACE_OVER_TCP = Path(__file__).parents[1] / "workspace-tcp.yaml"
CODE_LOCATION = "irt_assets"
"""The name of our code location in workspace.yaml."""
STACK_LOCK = Path("dagster") / "stack.lock"
"""Lock file under IRT_HOME: held exclusively by `irt serve`, or shared by the servers of `irt run`."""
MAX_SOCKET_PATH_LENGTH = 100
"""The kernel's limit on a socket's path, in bytes."""


def instance_environment(settings: Settings, database: Database) -> dict[str, str]:
    """Environment variables for Dagster's processes. This creates DAGSTER_HOME and starts the database.

    They include the settings, so that every child process has the same settings as this one.
    """
    return {**_as_environment(settings), **dagster_environment(settings, database)}


def dagster_environment(settings: Settings, database: Database) -> dict[str, str]:
    """Environment variables that Dagster itself reads. This creates its folders and its dagster.yaml."""
    home = private_home(settings) / "dagster"
    folders = {"IRT_DAGSTER_STORAGE": home / "storage", "IRT_DAGSTER_COMPUTE_LOGS": home / "compute_logs"}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    _refresh(home / "dagster.yaml", configuration(settings))
    host, port = code_server_address(settings)
    return {
        **{name: str(folder) for name, folder in folders.items()},
        "DAGSTER_HOME": str(home),
        "IRT_DAGSTER_DATABASE_URL": database.dagster_url,
        "IRT_CODE_SERVER_SOCKET": str(code_server_socket(settings)),
        "IRT_CODE_SERVER_HOST": host,
        "IRT_CODE_SERVER_PORT": port,
        # Without it a backfill fails for good if the daemon evaluates it while the code server restarts.
        "DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR": "1",
    }


def _as_environment(settings: Settings) -> dict[str, str]:
    """Settings as environment variables. If DATABASE_URL is unset, it becomes empty, so that no other value is used."""
    values = {}
    for name in settings.model_fields_set | {"irt_home", "database_url"}:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        values[name.upper()] = "" if value is None else str(value)
    return values


def configuration(settings: Settings) -> bytes:
    """The configuration of Dagster's instance: dagster.yaml, with the changes that the settings require."""
    changed = {"kubernetes": settings.irt_run_launcher == "kubernetes", "bucket": settings.s3_bucket is not None}
    if not any(changed.values()):
        return CONFIGURATION.read_bytes()
    import yaml  # here, because probes import this module

    made, variants = (yaml.safe_load(file.read_bytes()) for file in (CONFIGURATION, VARIANTS))
    for name in filter(changed.get, changed):
        made = _merge(made, variants[name])
    if changed["kubernetes"]:
        usual = {"resources": settings.run_resources("other")}
        try:
            made["run_launcher"]["config"] = usual | yaml.safe_load(settings.irt_run_launcher_config)
        except (yaml.YAMLError, TypeError) as error:
            raise PermanentFailure(f"IRT_RUN_LAUNCHER_CONFIG is not a mapping in YAML: {error}") from error
    if settings.s3_bucket:
        made["compute_logs"]["config"]["bucket"] = settings.s3_bucket
    return yaml.safe_dump(made, sort_keys=False).encode()


def _merge(onto: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Merge `changes` down to single values; a mapping that names a class is replaced as a whole."""
    return onto | {
        key: _merge(onto[key], value) if isinstance(value, dict) and key in onto and "class" not in value else value
        for key, value in changes.items()
    }


def _refresh(copy: Path, content: bytes) -> None:
    if not copy.exists() or copy.read_bytes() != content:
        fresh = copy.with_name(f"{copy.name}.{os.getpid()}")
        fresh.write_bytes(content)
        fresh.replace(copy)


def workspace(settings: Settings) -> Path:
    """The file that tells Dagster the address of the code server."""
    return WORKSPACE_OVER_TCP if settings.irt_code_server else WORKSPACE


def code_server_address(settings: Settings) -> tuple[str, str]:
    """Host and port of a code server on another host; two empty strings if it is on this host."""
    host, _, port = (settings.irt_code_server or "").rpartition(":")
    return host, port


def code_server_socket(settings: Settings) -> Path:
    """The code server's socket. It is in the temporary folder if the path of IRT_HOME is too long for the kernel.

    Raises PermanentFailure if the folder there belongs to another user.
    """
    home = settings.irt_home / "dagster"
    path = home / "code-server.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_LENGTH:
        return path
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"irt-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermanentFailure(f"{folder} belongs to another user. Set IRT_HOME to a shorter path than {home}.")
    return folder / "code-server.sock"


def address_of_the_stack(settings: Settings) -> str | None:
    """Address of the UI of `irt serve`, whose port may differ from the setting. None if `irt serve` does not run."""
    path = settings.irt_home / STACK_LOCK
    try:
        with path.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return lock.read().partition(",")[0] or None
    except FileNotFoundError:
        pass
    return None
