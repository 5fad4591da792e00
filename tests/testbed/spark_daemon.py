"""Starts the Python of an executor as pyspark's own daemon does, for less of the processor's time.

Spark puts pyspark's zip on the path, whose list of files Python 3.11 reads anew for each task, for 0.15 s. What our
tasks import is imported once, here, and not by each process that the daemon forks.
"""

from __future__ import annotations

import gc
import sys

sys.path[:] = [path for path in sys.path if not path.endswith(".zip")]
for path in [path for path in sys.path_importer_cache if path.endswith(".zip")]:
    del sys.path_importer_cache[path]

from pyspark.daemon import manager  # noqa: E402 - from its folder

import irt_assets.spark.em  # noqa: E402
import irt_assets.spark.window  # noqa: E402, F401

if __name__ == "__main__":
    gc.freeze()  # each task ends with a collection
    manager()
