"""A process that speaks to the code server starts children."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.ci

PROGRAM = """
import os, subprocess
from irt_assets.common import probes
from irt_assets.servers import supervisor
for _ in range(400):
    for _ in range(3):
        assert probes.code_server("unix:/nowhere/code-server.sock")
    subprocess.run(["true"], preexec_fn=supervisor.prepare_server, check=True)
"""
AT_MOST_S = 300
"""Four seconds on an idle machine; with gRPC's own preparation it stood still after fewer than a hundred forks."""


def test_a_fork_beside_grpc_does_not_wait_for_ever() -> None:
    """`irt serve` once stood still between the start of the code server and that of the daemon."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=AT_MOST_S)
    assert done.returncode == 0, done.stderr
