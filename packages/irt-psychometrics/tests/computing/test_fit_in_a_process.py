"""A fit in a process of its own: it ends at Ctrl-C and imports no module of SciPy."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

LONG_FIT = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # background processes inherit that it is ignored
import numpy as np, irt_psychometrics as irt
rng = np.random.default_rng(0)
items = irt.ItemParameters.from_frame({"item": [f"q{j}" for j in range(60)], "a": rng.lognormal(0, .3, 60),
                                       "b": rng.normal(size=60)})
x = irt.simulate_responses(items, rng.normal(size=20_000), random_state=1)
try:
    irt.fit(x, "3pl", tolerance=1e-300, max_iterations=1_000_000, progress=lambda n, _: print(n, flush=True))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_fit_ends_at_ctrl_c() -> None:
    command = [sys.executable, "-c", LONG_FIT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == "1"
        child.send_signal(signal.SIGINT)
        began = time.monotonic()
        lines = child.stdout.read().split()
        assert child.wait() == 0
    assert lines[-1] == "interrupted"
    assert time.monotonic() - began < 20


def test_fit_imports_no_module_of_scipy():
    """Their import takes longer than fitting 5,000 persons and 50 items."""
    code = (
        "import sys, numpy as np, irt_psychometrics as irt\n"
        "x = (np.random.default_rng(1).random((200, 5)) < 0.6).astype(float)\n"
        "fit = irt.fit(irt.Responses.from_wide(x), '2pl')\n"
        "fit.items.b, fit.reliability\n"
        "print([m for m in ('scipy.special', 'scipy.linalg', 'scipy.sparse', 'scipy.optimize') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
