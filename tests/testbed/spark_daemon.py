"""Starts the Python of an executor like pyspark's own daemon, but with less processor time.

Spark puts pyspark's zip on the path, and Python 3.11 reads its list of files again for each task, which takes 0.15 s.
This daemon imports the modules of our tasks once, instead of in each process that it forks.
"""

from __future__ import annotations

import gc
import sys

sys.path[:] = [path for path in sys.path if not path.endswith(".zip")]
for path in [path for path in sys.path_importer_cache if path.endswith(".zip")]:
    del sys.path_importer_cache[path]

from pyspark.daemon import manager  # noqa: E402 - the path must be changed first

import irt_assets.spark.em  # noqa: E402
import irt_assets.spark.window  # noqa: E402, F401

if __name__ == "__main__":
    gc.freeze()  # each task ends with a garbage collection
    manager()
