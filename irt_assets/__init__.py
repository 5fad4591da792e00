"""The asset graph of an assessment platform. Importing this package has no side effects."""

import os

# gRPC stops its threads before every fork and sometimes waits for them forever. Our children never use their parent's
# channels. gRPC reads this once, at its first use.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
