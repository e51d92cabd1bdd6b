"""``python -m tasks.planner``: a problem on standard input, a plan on standard output (``worker/planning.py``)."""

from __future__ import annotations

import argparse
import json
import resource
import sys

from pydantic import ValidationError

from tasks.planner.plan import BadProblem, plan
from worker.contract.plans import Problem
from worker.planning import REFUSED


def main() -> int:
    """Plan; 0, or ``REFUSED`` with what is wrong as JSON."""
    options = argparse.ArgumentParser(prog="python -m tasks.planner", description=__doc__)
    options.add_argument("--memory-mib", type=int, default=0, help="end when more is needed (0: no limit)")
    if most := options.parse_args().memory_mib << 20:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    try:
        found = plan(Problem.model_validate_json(sys.stdin.read()))
    except ValidationError as wrong:
        told = "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in wrong.errors()[:10])
        print(json.dumps({"error": told}))
        return REFUSED
    except BadProblem as wrong:
        print(json.dumps({"error": wrong.message}))
        return REFUSED
    print(found.model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
