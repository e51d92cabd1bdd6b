"""``python -m worker.hypervisors.simulator HOST --config FILE``: one simulated host."""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import signal
import sys
from pathlib import Path

from worker.errors import RelayError
from worker.hypervisors.simulator.config import load
from worker.hypervisors.simulator.server import serve

_PR_SET_PDEATHSIG = 1


def exit_with_parent() -> None:
    """Get SIGTERM when the parent dies (Linux; strictly, when the thread that started us ends)."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def run(host: str, config: Path, state_dir: Path | None, *, with_parent: bool) -> None:
    """Serve one host until told to stop. Raises ``SettingsError``, ``Unavailable``."""
    if with_parent:
        exit_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s simulator %(message)s", stream=sys.stderr)
    serve(host, load(config, state_dir))


def main() -> int:
    """The command line; exit code 2 where it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m worker.hypervisors.simulator", description=__doc__)
    parser.add_argument("host")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--state-dir", type=Path)
    parser.add_argument("--exit-with-parent", action="store_true")
    options = parser.parse_args()
    try:
        run(options.host, options.config, options.state_dir, with_parent=options.exit_with_parent)
    except RelayError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
