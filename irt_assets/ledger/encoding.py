"""Encode a Calibration as the bytes of a column, and an item as its JSON column."""

import hashlib
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from threading import Lock
from typing import Any, LiteralString

import numpy as np
import numpy.typing as npt

from irt_psychometrics import Calibration
from irt_psychometrics.items import ItemRow

_ARRAYS = ("a", "d", "c", "cov", "n", "n_correct")
_OPTIONAL = ("joint_cov", "categories", "further", "score_sums")
MAX_CACHED_BYTES = 2**28
"""Largest total size of the cached fits' arrays, in bytes: about eight fits of 1000 items with joint covariance."""

_ITEM_FIELDS = tuple(field.name for field in fields(ItemRow) if field.name != "further")
_STRICT = json.JSONEncoder(allow_nan=False)


def encode(calibration: Calibration) -> bytes:
    """Encode a Calibration as compressed bytes, from which `decode` restores it to the last bit.

    Earlier releases can read the bytes if all items have the same model with at most three parameters.
    """
    header = {name: value for name, value in vars(calibration).items() if name not in (*_ARRAYS, *_OPTIONAL)}
    arrays = {name: getattr(calibration, name) for name in _ARRAYS}
    models = header.pop("models")
    header["model"] = models[0] if len(set(models)) == 1 else models
    if calibration.cov.shape[1] == 3:
        arrays |= {"cov": calibration.cov[:, :2, :2], "guessing_cov": calibration.cov[:, 2]}
    arrays |= {name: value for name in _OPTIONAL if (value := getattr(calibration, name)) is not None}
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, header=np.frombuffer(json.dumps(header, default=asdict).encode(), dtype=np.uint8), **arrays
    )
    return buffer.getvalue()


class DecodedFits:
    """Cache of the last decoded fits, keyed by the hash of their bytes: the steps of a month read the same few fits."""

    def __init__(self, max_bytes: int = MAX_CACHED_BYTES) -> None:
        self._max_bytes = max_bytes
        self._fits: dict[bytes, Calibration] = {}
        self._lock = Lock()

    def decode(self, content: bytes) -> Calibration:
        digest = hashlib.sha256(content).digest()
        with self._lock:
            fit = self._fits.pop(digest, None) or _decode(content)
            self._fits[digest] = fit  # the newest fit is the last
            while sum(map(_size, self._fits.values())) > self._max_bytes:
                del self._fits[next(iter(self._fits))]
        return fit


def _size(fit: Calibration) -> int:
    return sum(array.nbytes for array in vars(fit).values() if isinstance(array, np.ndarray))


decode = DecodedFits().decode
"""Decode a Calibration encoded by `encode`. Its arrays are read-only, because callers share them."""


def _decode(content: bytes) -> Calibration:
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        header = json.loads(stored["header"].tobytes())
        arrays = {name: stored[name] for name in _ARRAYS}
        arrays |= {name: stored.get(name) for name in _OPTIONAL}
        if "guessing_cov" in stored:
            arrays["cov"] = _with_logit_c(arrays["cov"], stored["guessing_cov"])
    for array in filter(lambda array: array is not None, arrays.values()):
        array.setflags(write=False)
    model = header.pop("model")
    header["models"] = [model] * len(header["item_ids"]) if isinstance(model, str) else model
    return Calibration.from_stored(header | arrays)


def _with_logit_c(cov: npt.NDArray[np.float64], row_of_c: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Covariance of (a, d, logit c), shape (J, 3, 3), from the covariance of (a, d) and the row of logit c, shape (J,
    3)."""
    wide = np.zeros((len(cov), 3, 3))
    wide[:, :2, :2], wide[:, 2], wide[:, :, 2] = cov, row_of_c, row_of_c
    return wide


def alike(first: Any, second: Any) -> bool:
    """Whether two fits, or parts of them, are equal up to rounding (1e-9), as threads sum in varying order."""
    if is_dataclass(first) and isinstance(second, type(first)):
        return alike(vars(first), vars(second))
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(alike(first[name], second[name]) for name in first)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(alike, first, second))
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return first.shape == second.shape and np.allclose(first, second, rtol=1e-9, atol=1e-12, equal_nan=True)
    if isinstance(first, float) and isinstance(second, float):
        return math.isclose(first, second, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(first) and math.isnan(second))
    return bool(first == second)


def item_as_json(item: ItemRow) -> str:
    """Encode an item for a column `parameters`, exact to the last bit. −0 becomes a string, as jsonb has no −0.

    Raises ValueError if a value is not finite.
    """
    known = {name: value for name in _ITEM_FIELDS if (value := getattr(item, name)) is not None} | dict(item.further)
    signed = {name: "-0" if value == 0 and math.copysign(1, value) < 0 else value for name, value in known.items()}
    return _STRICT.encode(signed)


def item_from_json(stored: Mapping[str, float | str]) -> ItemRow:
    """Decode an item that `item_as_json` has encoded."""
    values = {name: float(value) for name, value in stored.items()}
    further = {name: value for name, value in values.items() if name not in _ITEM_FIELDS}
    return ItemRow.from_row({**values, "further": further})


def item_columns(table: LiteralString, before: LiteralString = "") -> LiteralString:
    """SQL columns that `ItemRow.from_row` reads, from the table with alias `table`. `before`: prefix of their names."""
    own = ", ".join(f"{table}.{name} AS {before}{name}" for name in _ITEM_FIELDS)
    names = ", ".join(_ITEM_FIELDS)
    return f"{own}, nullif({table}.parameters - '{{{names}}}'::text[], '{{}}'::jsonb) AS {before}further"
