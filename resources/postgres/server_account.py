"""The account that runs the embedded PostgreSQL: this user, or another one if this is root, which PostgreSQL refuses.

    python3 resources/postgres/server_account.py PROGRAMS DATA

says by its exit status whether there is one for programs and data in those folders, which need not be there yet. It is
run before anything is installed, so nothing but the standard library belongs here.
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

WAY_OUT = (
    "Clone into a folder that every user may enter (/opt, /srv), or work as a plain user, or set DATABASE_URL to a "
    "PostgreSQL server."
)


class NoAccountError(Exception):
    """No account can run the server; the message says why."""


@dataclass(frozen=True)
class Account:
    """Arguments before the program's own, and keywords of `subprocess`."""

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
        """Whether it can make a file there."""
        try:
            return self.run("sh", "-c", 'file=$(mktemp "$1/irt.XXXXXX") && rm "$file"', "sh", folder).returncode == 0
        except OSError:
            return False


def surroundings() -> dict[str, Any]:
    """PostgreSQL's programs read PG* variables and the language of their messages from the environment."""
    return {"env": {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}, "cwd": "/"}


def nobody() -> tuple[int, int]:
    account = pwd.getpwnam("nobody")
    return account.pw_uid, account.pw_gid


def account_for(data: Path, probe: Sequence[str | Path]) -> Account:
    """The one with least power that can write in `data`, which is its owner's, and for which `probe` succeeds.

    Raises NoAccountError with what each of them failed by.
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
    """Under a folder that the owner may not pass (/root), the server is given the one capability that lets it pass,
    and nothing else of root's. PostgreSQL asks access(2) for its programs, which heeds a capability of another user
    than root only where `no_setuid_fixup` is set.
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
    """Before there are programs: whether the account may enter where they will be. Raises NoAccountError."""
    there = [next(f for f in (folder, *folder.parents) if f.is_dir()) for folder in (programs, data)]
    enters = "import os, sys; sys.exit(0 if os.access(sys.argv[1], os.X_OK) else sys.argv[1] + ' may not be entered')"
    try:
        with tempfile.TemporaryDirectory(prefix=".irt-", dir=there[1]) as name:
            if os.geteuid() == 0:
                os.chown(name, *nobody())
            account_for(Path(name), (sys.executable, "-I", "-S", "-B", "-c", enters, there[0]))
    except OSError as error:
        raise NoAccountError(str(error)) from error


if __name__ == "__main__":
    try:
        check(*(Path(argument).absolute() for argument in sys.argv[1:]))
    except NoAccountError as error:
        user = "root" if os.geteuid() == 0 else f"user id {os.geteuid()}"
        sys.exit(f"The embedded PostgreSQL cannot run here for {user}:\n{error}\n{WAY_OUT}")
