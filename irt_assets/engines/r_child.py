"""The child process in which R runs, through rpy2: `python -m irt_assets.engines.r_child FOLDER`.

It reads `request.json` (source, function, argument) from the folder, calls the function of the R file and writes
`result.json`: `{"value": …}`, or `{"error", "kind"}` if R raised an error. Only `r_process` starts it.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import rpy2.rinterface as ri
from rpy2 import robjects

from irt_assets.engines.child import die_with_parent

R_TRY_CATCH = """function(call, request) tryCatch(
  list(value = if (length(request)) call(request) else call()),
  error = function(e) list(error = conditionMessage(e), kind = class(e)[1])
)"""


def main(folder: Path) -> None:
    die_with_parent()
    payload = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    robjects.r.source(payload["source"])
    outcome = robjects.r(R_TRY_CATCH)(robjects.globalenv[payload["function"]], to_r(payload["argument"]))
    unfinished = folder / "result.unfinished"
    unfinished.write_text(json.dumps(from_r(outcome), allow_nan=False), encoding="utf-8")
    unfinished.rename(folder / "result.json")


def to_r(value: Any) -> Any:
    """Convert JSON to R: objects to named lists, arrays to vectors, numbers to vectors of length 1, null to NULL."""
    if value is None:
        return ri.NULL
    if isinstance(value, dict):
        return robjects.ListVector({name: to_r(member) for name, member in value.items()})
    values = value if isinstance(value, list) else [value]
    if not values:
        return ri.NULL
    if all(isinstance(member, bool) for member in values):
        return ri.BoolSexpVector(values)
    if all(isinstance(member, int) for member in values):
        return ri.IntSexpVector(values)
    if all(member is None or isinstance(member, int | float) for member in values):
        return ri.FloatSexpVector([ri.NA_Real if member is None else float(member) for member in values])
    if all(isinstance(member, str) for member in values):
        return ri.StrSexpVector(values)
    return ri.ListSexpVector([to_r(member) for member in values])


def from_r(value: Any) -> Any:
    """Convert R to JSON: NA, NaN and ±Inf to null, a vector of length 1 to its value, a matrix to a list of rows."""
    if value is ri.NULL or value.typeof == ri.RTYPES.NILSXP:
        return None
    if isinstance(value, ri.ListSexpVector):
        names = value.names
        if names is ri.NULL or names.typeof == ri.RTYPES.NILSXP:
            return [from_r(member) for member in value]
        return {str(name): from_r(member) for name, member in zip(names, value, strict=True)}
    members = [_plain(member) for member in value]
    shape = value.do_slot("dim") if "dim" in value.list_attrs() else None
    if shape is not None:
        return np.array(members, dtype=object).reshape(tuple(shape), order="F").tolist()
    return members[0] if len(members) == 1 else members


def _plain(member: Any) -> Any:
    if member in (ri.NA_Character, ri.NA_Logical, ri.NA_Integer):
        return None
    if isinstance(member, float):
        return member if math.isfinite(member) else None
    return member


if __name__ == "__main__":
    main(Path(sys.argv[1]))
