"""The account that runs the embedded PostgreSQL: this user, or a different one for root, which PostgreSQL refuses.

    python3 resources/postgres/server_account.py PROGRAMS DATA

exits with status 0 if there is an account for programs and data in these folders, which need not exist yet. It runs
before anything is installed, so this module imports only the standard library.
"""

import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REMEDY = (
    "Clone into a folder that every user may enter (/opt, /srv), or work as a plain user, or set DATABASE_URL to a "
    "PostgreSQL server."
)


class NoAccountError(Exception):
    """No account can run the server; the message contains the reasons."""


@dataclass(frozen=True)
class Account:
    """An account: arguments before the program's own (`prefix`), and keywords of `subprocess` (`options`)."""

    prefix: tuple[str, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()

    def run(self, *command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.prefix, *map(str, command)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            **surroundings(),
            **dict(self.options),
            **options,
        )

    def writes(self, folder: Path) -> bool:
        """Whether the account can create a file in the folder."""
        try:
            return self.run("sh", "-c", 'file=$(mktemp "$1/irt.XXXXXX") && rm "$file"', "sh", folder).returncode == 0
        except OSError:
            return False


def surroundings() -> dict[str, Any]:
    """Environment and working folder of PostgreSQL's programs, without PG* variables and with English messages."""
    return {"env": {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}, "cwd": "/"}


def nobody() -> tuple[int, int]:
    account = pwd.getpwnam("nobody")
    return account.pw_uid, account.pw_gid


def account_for(data: Path, probe: Sequence[str | Path]) -> Account:
    """The least privileged account that can write to `data` and for which `probe` succeeds.

    Raises NoAccountError with the reason for each account.
    """
    complaints = []
    for account in _accounts(data.stat()):
        try:
            tried = account.run("sh", "-c", 'cd "$1" && test -w . && shift && "$@"', "sh", data, *probe)
        except (OSError, subprocess.SubprocessError) as error:
            complaints.append(str(error))
            continue
        if tried.returncode == 0:
            return account
        complaints.append(tried.stderr.strip() or f"{data} is not writable")
    raise NoAccountError("\n".join(complaints))


def _accounts(owner: os.stat_result) -> Iterator[Account]:
    """Yield the possible accounts, the least privileged first.

    If `data` is below a folder that its owner may not enter (/root), the server gets a single capability of root, with
    which it may. PostgreSQL checks its programs by access(2), which respects capabilities of users other than root only
    if `no_setuid_fixup` is set.
    """
    if os.geteuid() != 0:
        yield Account()
        return
    uid, gid = owner.st_uid, owner.st_gid
    yield Account(options=(("user", uid), ("group", gid), ("extra_groups", ())))
    drop = ("--clear-groups", f"--reuid={uid}", f"--regid={gid}", "--no-new-privs", "--securebits=+no_setuid_fixup")
    for capability in ("dac_read_search", "dac_override"):
        only = f"=-all,+{capability}"
        yield Account(("setpriv", *drop, f"--inh-caps{only}", f"--ambient-caps{only}", f"--bounding-set{only}"))


def check(programs: Path, data: Path) -> None:
    """Raise NoAccountError if no account may enter the folders in which programs and data will be."""
    existing = [next(f for f in (folder, *folder.parents) if f.is_dir()) for folder in (programs, data)]
    enters = "import os, sys; sys.exit(0 if os.access(sys.argv[1], os.X_OK) else sys.argv[1] + ' may not be entered')"
    try:
        with tempfile.TemporaryDirectory(prefix=".irt-", dir=existing[1]) as name:
            if os.geteuid() == 0:
                os.chown(name, *nobody())
            account_for(Path(name), (sys.executable, "-I", "-S", "-B", "-c", enters, existing[0]))
    except OSError as error:
        raise NoAccountError(str(error)) from error


if __name__ == "__main__":
    try:
        check(*(Path(argument).absolute() for argument in sys.argv[1:]))
    except NoAccountError as error:
        user = "root" if os.geteuid() == 0 else f"user id {os.geteuid()}"
        sys.exit(f"The embedded PostgreSQL cannot run here for {user}:\n{error}\n{REMEDY}")
