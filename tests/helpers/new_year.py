"""Runs a command while the year ends: its clock, and that of all it starts, is set so that New Year (UTC)
comes so many seconds after its start.

    python -m tests.helpers.new_year 60 pytest tests/unit

A library that is loaded before libc's adds the difference to what the time of day is, and to nothing else: libfaketime
does more, and `time.sleep` of Python 3.11 fails or never ends under it. What does not belong here: what is run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from tests.testbed.kept import fingerprint, kept

AHEAD = "CLOCK_IS_AHEAD_S"
VARIABLES = ("LD_PRELOAD", AHEAD)
"""What a process needs whose clock is to be the same."""
SOURCE = f"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static time_t ahead(void) {{
    const char *seconds = getenv("{AHEAD}");
    return seconds ? atol(seconds) : 0;
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


def main(before_s: int, command: list[str]) -> None:
    library = kept("clock", fingerprint(SOURCE), compile_into) / "clock.so"
    now = datetime.now(UTC)
    ahead = (datetime(now.year + 1, 1, 1, tzinfo=UTC) - now).total_seconds() - before_s
    os.execvpe(command[0], command, os.environ | {"LD_PRELOAD": str(library), AHEAD: str(int(ahead))})


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
