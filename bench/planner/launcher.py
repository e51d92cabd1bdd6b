"""``python -m bench.planner.launcher USAGE SECONDS COMMAND…``: run a command with a limit, and write what it took.

A process of its own, which imports next to nothing: the kernel counts to a new program the memory of the process that
started it, and the benchmark holds large problems.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

from worker.leash import leashed

GRACE_SECONDS = 10
"""What an interrupted program has to print what it found so far."""


def main() -> int:
    """Run; the exit code is 0 whatever the command's is, which ``USAGE`` tells."""
    usage, seconds, *command = sys.argv[1:]
    started = time.perf_counter()
    limited = False
    with subprocess.Popen(leashed(command)) as process:
        try:
            process.wait(float(seconds))
        except subprocess.TimeoutExpired:
            limited = True
            process.send_signal(signal.SIGINT)
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
    wall = time.perf_counter() - started
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {
        "returncode": process.returncode,
        "wall_seconds": wall,
        "cpu_seconds": spent.ru_utime + spent.ru_stime,
        "rss_mib": spent.ru_maxrss / 1024,
        "limited": limited,
    }
    Path(usage).write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
