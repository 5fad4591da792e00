"""The asset graph of an assessment platform. Importing this package sets two things of the process, and no more."""

import gc
import os

# gRPC stops its threads before every fork and sometimes waits for them for ever. Our children never use their parent's
# channels. gRPC reads this once, at its first use.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

# Searching for garbage took a fifth of the seconds in which a process loads the graph, and found next to none.
gc.set_threshold(50_000)
