"""Programs and modules import no package that they do not need, as a new process shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.testbed.patience import patient


def test_exporter_does_not_import_compilers_and_data_frames() -> None:
    """The state of a month needs NumPy, SciPy, PyArrow and Ibis. Numba and pandas would take 130 MB more."""
    program = "import sys, services.exporter.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"numba", "pandas"} & set(done.stdout.split())


def test_modules_for_learner_reports_do_not_import_numpy_and_plotly() -> None:
    code = "import sys, irt_assets.reports.learner_curve, irt_psychometrics.plots.chart; "
    code += "print({'numpy', 'plotly'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_importing_the_resources_opens_no_connection_and_writes_no_file(tmp_path: Path) -> None:
    modules = ["doctor", "files.object_store", "postgres.embedded_postgres", "postgres.schema", "postgres.warehouse"]
    code = "import socket; socket.socket.connect = None; import " + ", ".join(f"resources.{name}" for name in modules)
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, timeout=patient(60))
    assert list(tmp_path.iterdir()) == []


def test_spark_is_not_imported_if_irt_spark_is_not_set() -> None:
    code = (
        "import sys; from resources import doctor, failures; from resources.settings import Settings;"
        "list(doctor._spark(Settings(_env_file=None))); failures.explain(ValueError()); "
        "failures.is_transient(OSError());"
        "print([name for name in sys.modules if name.startswith(('pyspark', 'py4j', 'grpc'))])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_opentelemetry_is_not_imported_without_a_collector() -> None:
    program = """
import sys
from resources.serving import logs, traces
from resources.settings import get_settings
logs.configure()
with traces.span("work"):
    started = traces.start("test", get_settings())
    print(started, traces.current_ids(), [name for name in sys.modules if "opentelemetry" in name])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False {} []\n"
