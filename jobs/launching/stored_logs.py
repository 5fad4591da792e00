"""What runs print, kept in the object store: it outlives the pod and is read by a webserver elsewhere.

While a step goes on its output is in a local file, and from time to time a copy of it is stored as `….partial`. What
does not belong here: what is logged (see `resources.serving.logs`).
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from dagster import StringSource

from resources.dagster_compat import (
    IO_TYPE_EXTENSION,
    CapturedLogSubscription,
    CloudStorageComputeLogManager,
    ComputeIOType,
    ConfigurableClass,
    ConfigurableClassData,
    LocalComputeLogManager,
    PollingComputeLogSubscriptionManager,
    ensure_file,
)
from resources.failures import PermanentFailure, TransientFailure
from resources.files.object_store import ObjectStore, object_store
from resources.settings import get_settings

LOG = logging.getLogger(__name__)
FOLDER = "run-logs"
UPLOAD_INTERVAL_S = 30
"""Seconds between copies: a killed pod loses at most this much of a step's output."""


class StoredComputeLogManager(CloudStorageComputeLogManager[Any], ConfigurableClass):
    """Keeps the output of steps under `run-logs/RUN/` of the object store; `base_dir` holds what is being written.

    If the store does not answer, a run loses its output and nothing else.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        self._local = LocalComputeLogManager(base_dir)
        self._subscriptions = PollingComputeLogSubscriptionManager(self)
        self._storing = threading.RLock()

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {"base_dir": StringSource}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        return cls(inst_data=inst_data, **config_value)

    @cached_property
    def _store(self) -> ObjectStore:
        return object_store(get_settings())

    @property
    def local_manager(self) -> LocalComputeLogManager:
        return self._local

    @property
    def upload_interval(self) -> int | None:
        return UPLOAD_INTERVAL_S

    def upload_to_cloud_storage(self, log_key: Sequence[str], io_type: ComputeIOType, partial: bool = False) -> None:
        path = Path(self._path(log_key, io_type))
        with self._storing:
            if partial and not path.exists():
                return  # its step has ended meanwhile, and all of it is stored
            ensure_file(str(path))
            try:
                self._store.put(_key(log_key, io_type, partial=partial), path)
                if not partial:
                    self._store.delete(_key(log_key, io_type, partial=True))
            except (PermanentFailure, TransientFailure) as error:
                LOG.warning("the output of %s is not stored: %s", "/".join(log_key), error)

    def _on_capture_complete(self, log_key: Sequence[str]) -> None:
        with self._storing:
            super()._on_capture_complete(log_key)

    def download_from_cloud_storage(
        self, log_key: Sequence[str], io_type: ComputeIOType, partial: bool = False
    ) -> None:
        path = Path(self._path(log_key, io_type, partial=partial))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self._store.get(_key(log_key, io_type, partial=partial)))

    def cloud_storage_has_logs(self, log_key: Sequence[str], io_type: ComputeIOType, partial: bool = False) -> bool:
        """False if the store does not answer; it is asked again in a moment."""
        try:
            return self._store.exists(_key(log_key, io_type, partial=partial))
        except TransientFailure as error:
            LOG.warning("whether there is output of %s: %s", "/".join(log_key), error)
            return False

    def display_path_for_type(self, log_key: Sequence[str], io_type: ComputeIOType) -> str:
        return self._store.uri(_key(log_key, io_type))

    def download_url_for_type(self, log_key: Sequence[str], io_type: ComputeIOType) -> str | None:
        """An address of the webserver, which checks who asks, and not of the bucket."""
        return str(self._local.get_captured_log_download_url(log_key, io_type))

    def delete_logs(self, log_key: Sequence[str] | None = None, prefix: Sequence[str] | None = None) -> None:
        self._local.delete_logs(log_key=log_key, prefix=prefix)
        if log_key:
            for io_type in ComputeIOType:
                for partial in (False, True):
                    self._store.delete(_key(log_key, io_type, partial=partial))
        elif prefix:
            for key in [key for key, _ in self._store.list("/".join((FOLDER, *prefix)))]:
                self._store.delete(key)

    def get_log_keys_for_log_key_prefix(
        self, log_key_prefix: Sequence[str], io_type: ComputeIOType
    ) -> Sequence[list[str]]:
        folder, end = "/".join((FOLDER, *log_key_prefix)), f".{IO_TYPE_EXTENSION[io_type]}"
        names = {key.removeprefix(f"{folder}/").removesuffix(".partial") for key, _ in self._store.list(folder)}
        files = sorted(name for name in names if "/" not in name and name.endswith(end))
        return [[*log_key_prefix, name.removesuffix(end)] for name in files]

    def on_subscribe(self, subscription: CapturedLogSubscription) -> None:
        self._subscriptions.add_subscription(subscription)

    def on_unsubscribe(self, subscription: CapturedLogSubscription) -> None:
        self._subscriptions.remove_subscription(subscription)

    def dispose(self) -> None:
        self._subscriptions.dispose()
        super().dispose()

    def _path(self, log_key: Sequence[str], io_type: ComputeIOType, *, partial: bool = False) -> str:
        return self._local.get_captured_local_path(log_key, IO_TYPE_EXTENSION[io_type], partial=partial)


def _key(log_key: Sequence[str], io_type: ComputeIOType, *, partial: bool = False) -> str:
    return f"{FOLDER}/{'/'.join(log_key)}.{IO_TYPE_EXTENSION[io_type]}{'.partial' if partial else ''}"
