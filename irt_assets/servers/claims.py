"""Exclusive claims of a stack: its IRT_HOME and its ports. The kernel frees both, however the process ends."""

import fcntl
import os
import socket
import sys
from contextlib import ExitStack
from typing import TextIO

from irt_assets.common.environment import STACK_LOCK
from resources.failures import PermanentFailure
from resources.serving.listening import bound_port
from resources.settings import Settings, private_home


class StackError(PermanentFailure):
    """The servers could not be started. The message names the server, the reason and the remedy."""


class Claims:
    """The claims of a stack, until `release`."""

    def __init__(self) -> None:
        self._held = ExitStack()
        self._home: TextIO | None = None

    def release(self) -> None:
        self._held.close()

    def claim_home(self, settings: Settings) -> None:
        """Claim this IRT_HOME. Raises StackError, with the other stack's address, if another stack uses it."""
        path = private_home(settings) / STACK_LOCK
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip() or "starting, or by `irt run`"
            lock.close()
            raise StackError(
                f"Dagster already runs for {settings.irt_home} ({owner}). Use that one, stop it, or set IRT_HOME."
            ) from None
        lock.truncate(0)
        self._home = self._held.enter_context(lock)

    def announce(self, address: str) -> None:
        """Write the stack's address into the lock file, for the message to the next stack that claims this IRT_HOME."""
        assert self._home is not None
        self._home.write(f"{address}, pid {os.getpid()}")
        self._home.flush()

    def claim_port(self, wanted: int) -> bool:
        """Claim a port. Returns False if it is in use, or claimed by another stack.

        A webserver listens only seconds after its start. Until then a name in Linux's abstract socket namespace keeps
        other stacks from claiming its port.
        """
        claim = socket.socket(socket.AF_UNIX)
        try:
            bound_port(wanted)
            if sys.platform == "linux":
                claim.bind(f"\0irt-ui-port-{wanted}")
        except OSError:
            claim.close()
            return False
        self._held.enter_context(claim)
        return True

    def claim_next_port(self, first: int, variable: str) -> int:
        """Claim the first free port from `first` on. Raises StackError, which names the setting, if no port is free."""
        for port in range(first, first + 100):
            if self.claim_port(port):
                return port
        raise StackError(f"No port from {first} on is free. Set {variable}.")

    def claim_ui_port(self, settings: Settings, wanted: int | None) -> int:
        """Claim the UI's port: `wanted`, or IRT_UI_PORT if it is set, or the first free port from its default on.

        Raises StackError if `wanted` or the set port is not free.
        """
        if wanted is None and "irt_ui_port" in settings.model_fields_set:
            wanted = settings.irt_ui_port
        if wanted is None:
            return self.claim_next_port(settings.irt_ui_port, "IRT_UI_PORT")
        if not self.claim_port(wanted):
            raise StackError(f"Port {wanted} is in use. Set IRT_UI_PORT to a free port.")
        return wanted
