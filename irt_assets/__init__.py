"""The asset graph of an assessment platform. Importing this package wires, reads and connects nothing."""

import os

# gRPC stops its threads before every fork and sometimes waits for them for ever. No child of ours uses its parent's
# channels, and gRPC reads this once, when it is first used.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
