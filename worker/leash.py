"""Child processes that never outlive the process that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

LOCKED = 75
"""Exit code of a leashed process whose ``lock`` is held by another one (``EX_TEMPFAIL``)."""

# Runs in the child between fork and exec, as a program of its own: code in a ``preexec_fn`` can
# deadlock when the parent has threads. prctl(2): the setting survives exec; it is about the *thread*
# that forked; and it says nothing about a parent that was gone before, hence the look at getppid.
_PROGRAM = f"""
import os, signal, sys
parent, lock, *argv = sys.argv[1:]
if sys.platform == "linux":
    import ctypes
    PR_SET_PDEATHSIG = 1
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        sys.exit("prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != int(parent):
        sys.exit("the parent process has ended")
if lock:
    import fcntl
    fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write(lock + " is locked by another process\\n")
        sys.exit({LOCKED})
    os.set_inheritable(fd, True)
try:
    os.execvp(argv[0], argv)
except OSError as error:
    sys.stderr.write(f"{{argv[0]}}: {{error.strerror}}\\n")
    sys.exit(127)
"""


def leashed(argv: Sequence[str], *, lock: Path | None = None) -> list[str]:
    """Return the command that runs ``argv`` and dies with its parent: to be started by this process.

    The kernel sends SIGKILL when the *thread* that started the command ends, so start it from the main
    thread or from one that lives as long as the command shall. The process id does not change when
    ``argv`` takes over. On systems other than Linux there is no leash.

    ``lock`` is a file that the command holds locked (flock) until it ends, however it ends; if another
    process holds it, the command ends at once with exit code ``LOCKED``. Exit code 127: ``argv[0]``
    could not be executed.
    """
    # -I and -S: no site-packages, no environment variables; the program needs the standard library alone.
    return [sys.executable, "-I", "-S", "-c", _PROGRAM, str(os.getpid()), str(lock or ""), *argv]


def end_with_parent() -> None:
    """Ask the kernel for a SIGTERM when the thread that started this process ends (Linux; prctl(2))."""
    parent, pr_set_pdeathsig = os.getppid(), 1
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)
