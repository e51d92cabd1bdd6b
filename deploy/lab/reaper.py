"""Run a command, and be the parent of all that it leaves behind until the last one has ended.

    reaper.py COMMAND ...

libvirtd lets its guests become orphans and waits, when one is destroyed, until it is really gone. In
a container whose first process does not collect orphans they would stay for ever, as zombies.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_CHILD_SUBREAPER = 36

ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends with its children
try:
    while True:
        os.wait()
except ChildProcessError:
    pass
