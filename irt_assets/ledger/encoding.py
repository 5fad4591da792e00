"""Encode a Calibration as the bytes of a column, and an item as its JSON column."""

import hashlib
import io
import json
import math
from dataclasses import asdict, fields, is_dataclass
from threading import Lock
from typing import Any, LiteralString

import numpy as np
import numpy.typing as npt

from irt_psychometrics import Calibration
from irt_psychometrics.items import ItemRow

_ARRAYS = ("a", "d", "c", "cov", "n", "n_correct")
_NOT_OF_ALL = ("joint_cov", "categories", "further", "score_sums")
KEPT_BYTES = 2**28
"""Largest total size of the cached fits' arrays, in bytes: about eight fits of 1000 items with joint covariance."""

_OF_ITEMS = tuple(one.name for one in fields(ItemRow) if one.name != "further")
_STRICT = json.JSONEncoder(allow_nan=False)


def encode(calibration: Calibration) -> bytes:
    """Encode a Calibration as compressed bytes, from which `decode` restores it to the last bit.

    Earlier releases can read the bytes if all items have the same model with at most three parameters.
    """
    header = {name: value for name, value in vars(calibration).items() if name not in (*_ARRAYS, *_NOT_OF_ALL)}
    arrays = {name: getattr(calibration, name) for name in _ARRAYS}
    models = header.pop("models")
    header["model"] = models[0] if len(set(models)) == 1 else models
    if calibration.cov.shape[1] == 3:
        arrays |= {"cov": calibration.cov[:, :2, :2], "guessing_cov": calibration.cov[:, 2]}
    arrays |= {name: value for name in _NOT_OF_ALL if (value := getattr(calibration, name)) is not None}
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, header=np.frombuffer(json.dumps(header, default=asdict).encode(), dtype=np.uint8), **arrays
    )
    return buffer.getvalue()


class DecodedFits:
    """Cache of the last decoded fits, keyed by the hash of their bytes: the steps of a month read the same few fits."""

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._fits: dict[bytes, Calibration] = {}
        self._lock = Lock()

    def decode(self, content: bytes) -> Calibration:
        digest = hashlib.sha256(content).digest()
        with self._lock:
            fit = self._fits.pop(digest, None) or _decoded(content)
            self._fits[digest] = fit  # the last one is the newest
            while sum(map(_size, self._fits.values())) > self._most_bytes:
                del self._fits[next(iter(self._fits))]
        return fit


def _size(fit: Calibration) -> int:
    return sum(array.nbytes for array in vars(fit).values() if isinstance(array, np.ndarray))


decode = DecodedFits().decode
"""Decode a Calibration encoded by `encode`. Its arrays are read-only, because callers share them."""


def _decoded(content: bytes) -> Calibration:
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        header = json.loads(stored["header"].tobytes())
        arrays = {name: stored[name] for name in _ARRAYS}
        arrays |= {name: stored.get(name) for name in _NOT_OF_ALL}
        if "guessing_cov" in stored:
            arrays["cov"] = _with_logit_c(arrays["cov"], stored["guessing_cov"])
    for array in filter(lambda array: array is not None, arrays.values()):
        array.setflags(write=False)
    model = header.pop("model")
    header["models"] = [model] * len(header["item_ids"]) if isinstance(model, str) else model
    return Calibration.from_json(header | arrays)


def _with_logit_c(cov: npt.NDArray[np.float64], of_c: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Covariance of (a, d, logit c), shape (J, 3, 3), from the one of (a, d) and the row of logit c, shape (J, 3)."""
    wide = np.zeros((len(cov), 3, 3))
    wide[:, :2, :2], wide[:, 2], wide[:, :, 2] = cov, of_c, of_c
    return wide


def alike(one: Any, other: Any) -> bool:
    """Whether two fits, or parts of them, are equal up to rounding (1e-9), as threads sum in varying order."""
    if is_dataclass(one) and isinstance(other, type(one)):
        return alike(vars(one), vars(other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.shape == other.shape and np.allclose(one, other, rtol=1e-9, atol=1e-12, equal_nan=True)
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(one) and math.isnan(other))
    return bool(one == other)


def item_as_json(item: ItemRow) -> str:
    """Encode an item for a column `parameters`, exact to the last bit. −0 becomes a string, as jsonb has no −0.

    Raises ValueError if a value is not finite.
    """
    known = {name: value for name in _OF_ITEMS if (value := getattr(item, name)) is not None} | dict(item.further)
    signed = {name: "-0" if value == 0 and math.copysign(1, value) < 0 else value for name, value in known.items()}
    return _STRICT.encode(signed)


def item_columns(table: LiteralString, before: LiteralString = "") -> LiteralString:
    """SQL columns that `ItemRow.of` reads, from the table with alias `table`. `before`: prefix of their names."""
    own = ", ".join(f"{table}.{name} AS {before}{name}" for name in _OF_ITEMS)
    names = ", ".join(_OF_ITEMS)
    return f"{own}, nullif({table}.parameters - '{{{names}}}'::text[], '{{}}'::jsonb) AS {before}further"
