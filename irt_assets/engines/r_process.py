"""Call R in a child process, one per call. The value is JSON; errors contain the remedy.

irt.R contains the called functions, `r_child` the child's program, and `child` its supervision.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from irt_assets.engines.child import EngineFailure, EngineMemoryError, Limits, run
from irt_psychometrics import PsychometricsError

SOURCE = Path(__file__).with_name("irt.R")
REQUEST_ERRORS = ("irt_request_error", "irt_data_error")
"""Conditions that irt.R raises if the request is at fault, and not R."""
_OUT_OF_MEMORY = ("cannot allocate", "memory exhausted", "std::bad_alloc")


class RStoppedError(EngineFailure):
    """R itself raised an error. The message contains R's message."""


def call_r(
    function: str, argument: dict[str, Any], *, limits: Limits | None = None, source: Path = SOURCE
) -> dict[str, Any]:
    """Call a function of an R file, by default irt.R, and return its value.

    Argument and value are converted to JSON; NA becomes None. Raises PsychometricsError if R rejects the request or the
    answers in it, RStoppedError for any other error of R, EngineMemoryError if R runs out of memory, and the errors of
    `child.run`.
    """
    with tempfile.TemporaryDirectory(prefix="irt-r-") as name:
        folder = Path(name)
        payload = {"source": str(source.absolute()), "function": function, "argument": argument}
        (folder / "request.json").write_text(json.dumps(payload), encoding="utf-8")
        answer = folder / "result.json"
        run(
            [sys.executable, "-m", "irt_assets.engines.r_child", name],
            name="R",
            answer=answer,
            log=folder / "printed.txt",
            limits=limits or Limits(),
            environment={"TMPDIR": name},
        )
        outcome: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    if "error" not in outcome:
        return outcome["value"]
    message = str(outcome["error"]).strip()
    if outcome["kind"] in REQUEST_ERRORS:
        raise PsychometricsError(message)
    if any(sign in message for sign in _OUT_OF_MEMORY):
        raise EngineMemoryError(f"R ran out of memory ({message}): give it fewer answers, or more memory")
    raise RStoppedError(f"R stopped: {message}")
