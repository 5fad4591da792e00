"""Run workers as forks of a process that has loaded the graph: loading takes seconds, forking next to no time.

The code server forks this process from itself before it starts any thread, and requests each worker from it through the
context "forkserver" of `multiprocessing`. The process ends when the code server and the last worker have ended. If the
process is killed its workers end with it, because the code server regards them as dead. A code server that restarts
forks a new process, with the current code.
"""

import gc
import os
import signal
import socket
import sys
from contextlib import suppress
from multiprocessing import forkserver
from pathlib import Path

from jobs.launching.launcher import prefer_as_oom_victim
from resources.serving.child_processes import end_with_parent, name_this_process

NAME = "irt-run-worker"


def fork_worker_server() -> None:
    """Fork the process that forks workers. Only on Linux; elsewhere this does nothing."""
    if sys.platform != "linux":
        return
    path = Path(os.environ["IRT_CODE_SERVER_SOCKET"]).with_name("run-workers.sock")
    path.unlink(missing_ok=True)
    listener, (reads_end, writes_end) = socket.socket(socket.AF_UNIX), os.pipe()
    listener.bind(os.fspath(path))
    listener.listen()
    pid = os.fork()
    if pid == 0:
        os.close(writes_end)
        _fork_workers(listener.detach(), reads_end)
    listener.close()
    os.close(reads_end)
    vars(forkserver._forkserver).update(
        _forkserver_address=str(path), _forkserver_pid=pid, _forkserver_alive_fd=writes_end
    )


def _fork_workers(listener: int, parent_pipe: int) -> None:
    """Fork workers until `parent_pipe` is closed, and then end this process."""
    import numba  # noqa: F401 - workers inherit it and need it; the code server does not

    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _close_inherited_files()
    gc.freeze()
    try:
        forkserver.main(listener, parent_pipe, preload=[])
    finally:
        os._exit(0)


def _close_inherited_files() -> None:
    """Close the files that the code server inherited from the process that started it, except the standard streams.

    One of them holds the code server's lock. The next code server cannot start while a worker has it open, too.
    """
    for descriptor in [int(file.name) for file in Path("/proc/self/fd").iterdir()]:
        with suppress(OSError):
            if descriptor > 2 and os.get_inheritable(descriptor):
                os.close(descriptor)


def prepare_worker() -> None:
    """Prepare a worker before its run: it ends with its parent, and is killed first when memory runs out."""
    end_with_parent()
    name_this_process(NAME)
    prefer_as_oom_victim()
