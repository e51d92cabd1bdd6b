"""Whether the process that holds a lease still lives, as far as that can be seen from here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def birth(pid: int) -> str:
    """Names one process of one boot: boot, pid namespace, start time. Empty where there is no such process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # The command name, in parentheses, may hold blanks; after it come the state (field 3) and, as
        # field 22, the start time. A zombie has ended: only its parent has not looked yet.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        state, started = fields[0], fields[19]
    except OSError:
        return ""
    if state in "ZX":
        return ""
    return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}/{started}"


def is_alive(holder: Mapping[str, object]) -> bool | None:
    """Whether the process that holds a lease lives; ``None`` where that cannot be seen from here."""
    place = str(holder.get("process", "")).rpartition("/")[0]
    if not place or place != birth(os.getpid()).rpartition("/")[0]:
        return None
    return birth(int(str(holder["pid"]))) == holder["process"]
