"""``vmrelay demo --libvirt --drain``, run as a user runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from worker.cli.demo_drain import GUESTS

VMRELAY = Path(sys.executable).with_name("vmrelay")


@pytest.mark.lab
@pytest.mark.timeout(400)
def test_a_real_host_is_drained_and_gets_its_guests_back() -> None:
    """Exit 0: four of twelve guests leave and return, the hosts say so themselves, and no heartbeat is missing."""
    with TemporaryDirectory(prefix="d", dir="/tmp") as folder:
        Path(folder).chmod(0o711)
        done = subprocess.run(
            [VMRELAY, "demo", "--libvirt", "--drain"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TMPDIR": folder},
            timeout=360,
            check=False,
        )
        said = done.stdout
        assert done.returncode == 0, said
        assert os.listdir(folder) == []
    drained, returned = said.split("$ vmrelay hosts return beta")
    assert "4 moved, 0 failed, 0 skipped of 4" in drained
    assert re.search(r"^ +beta +no domain$", drained, re.MULTILINE)
    assert re.search(r"^ +beta +web-2, mail-2, db-2, batch-2$", returned, re.MULTILINE)
    assert len(re.findall(r" 0 +0 +0 *$", returned, re.MULTILINE)) == len(GUESTS)
