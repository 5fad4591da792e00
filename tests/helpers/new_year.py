"""Run a command during New Year: its clock and its children's are set so that the year (UTC) ends after some seconds.

    python -m tests.helpers.new_year 60 pytest tests/unit

A test can set a `Clock` for the servers that it starts at any time.

A preloaded library adds the difference to the time of day only. libfaketime changes more clocks, and `time.sleep` of
Python 3.11 then fails or never ends.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.testbed.kept import fingerprint, kept

AHEAD = "CLOCK_IS_AHEAD_S"
VARIABLES = ("LD_PRELOAD", AHEAD)
"""Environment variables that a process needs to have the same clock."""
SOURCE = f"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static time_t ahead(void) {{
    static volatile long *shared;
    const char *seconds = getenv("{AHEAD}");
    if (!seconds || *seconds != '/') return seconds ? atol(seconds) : 0;
    if (!shared) shared = mmap(NULL, sizeof(long), PROT_READ, MAP_SHARED, open(seconds, O_RDONLY), 0);
    return *shared;
}}

int clock_gettime(clockid_t clock, struct timespec *now) {{
    static int (*original)(clockid_t, struct timespec *);
    if (!original) original = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = original(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += ahead();
    return failed;
}}

int gettimeofday(struct timeval *now, void *zone) {{
    (void) zone;
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}}

time_t time(time_t *now) {{
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now) *now = exact.tv_sec;
    return exact.tv_sec;
}}
"""


def compile_into(folder: Path) -> None:
    command = ["cc", "-shared", "-fPIC", "-O2", "-o", folder / "clock.so", "-x", "c", "-", "-ldl"]
    subprocess.run(command, input=SOURCE, text=True, check=True)


def environment(ahead: str) -> dict[str, str]:
    """Environment of a process whose clock is `ahead` seconds ahead; `ahead` is a number or a file that contains it."""
    library = kept("clock", fingerprint(SOURCE), compile_into) / "clock.so"
    return dict(zip(VARIABLES, (str(library), ahead), strict=True))


class Clock:
    """The clock of all processes with its `environment`. The user who runs them must be able to read `folder`."""

    def __init__(self, folder: Path, at: datetime) -> None:
        self._path = folder / "ahead"
        self._path.touch(0o644)
        self.environment = environment(str(self._path))
        kept_library = self.environment["LD_PRELOAD"]  # its folder is closed to PostgreSQL's account
        self.environment["LD_PRELOAD"] = shutil.copy(kept_library, folder)
        self.set(at)

    def set(self, at: datetime) -> None:
        self._ahead = round((at - datetime.now(UTC)).total_seconds())
        with self._path.open("r+b") as file:
            file.write(struct.pack("@l", self._ahead))

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self._ahead)


def main(before_s: int, command: list[str]) -> None:
    now = datetime.now(UTC)
    ahead = (datetime(now.year + 1, 1, 1, tzinfo=UTC) - now).total_seconds() - before_s
    os.execvpe(command[0], command, os.environ | environment(str(int(ahead))))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
