"""Visit every interleaving of a small migration with faults in it; see docs/explorer.md.

Exit code 0 where nothing is wrong, or (``--broken``) where the broken rule was found; 1 otherwise. The last line
is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from chaos.explorer.broken import BROKEN
from chaos.explorer.explore import MODELS, explore
from chaos.explorer.search import Report
from chaos.explorer.state import KINDS, Rules


def main(words: Sequence[str] | None = None) -> int:
    """Run the explorer."""
    asked = _parsed(words)
    kinds = frozenset(asked.kinds.split(",")) if asked.kinds else KINDS
    rules = Rules(asked.faults, asked.lost, asked.attempts, kinds)
    total: dict[str, float] = {"states": 0, "transitions": 0, "violations": 0, "depth": 0, "seconds": 0.0}
    complete = True
    for model in asked.model or MODELS:
        for paused in (False, True) if asked.paused else (False,):
            name = f"{model}{', paused by its user' if paused else ''}"
            report = explore(
                model, rules, paused=paused, broken=asked.broken, seconds=asked.seconds, first=bool(asked.broken)
            )
            _tell(name, report)
            complete = complete and report.complete
            total["states"] += report.states
            total["transitions"] += report.transitions
            total["violations"] += report.wrong.total()
            total["depth"] = max(total["depth"], report.depth)
            total["seconds"] = round(total["seconds"] + report.seconds, 1)
    print(json.dumps(total | {"faults": asked.faults, "complete": complete}))
    found = bool(total["violations"])
    return int(found != bool(asked.broken))


def _parsed(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos.explorer", description=__doc__)
    parser.add_argument("--model", action="append", choices=MODELS, help="only this hypervisor (may be repeated)")
    parser.add_argument("--faults", type=int, default=1, help="so many faults on the way (default 1)")
    parser.add_argument("--kinds", help=f"only these kinds of faults, of {','.join(sorted(KINDS))}")
    parser.add_argument("--lost", type=int, default=1, help="Redis loses up to so many last writes (default 1)")
    parser.add_argument("--attempts", type=int, default=1, help="so many attempts in all (default 1)")
    parser.add_argument("--paused", action="store_true", help="a guest that its user paused, too")
    parser.add_argument("--seconds", type=float, default=0.0, help="give up after so long (default: never)")
    broken = "; ".join(f"{name}: {rule.about}" for name, rule in BROKEN.items())
    parser.add_argument("--broken", choices=BROKEN, default="", help=f"break a rule on purpose ({broken})")
    return parser.parse_args(words)


def _tell(name: str, report: Report) -> None:
    done = "all of them" if report.complete else "not all of them"
    print(f"{name}: {report.states} states ({done}), {report.transitions} transitions, {report.seconds} s")
    for end, count in report.ends.most_common():
        print(f"  {count:6} ends: {end}")
    for what, count in report.wrong.most_common():
        print(f"  {count:6} states: VIOLATION: {what}")
    told = set()
    for violation in report.violations:
        if violation.what not in told:
            told.add(violation.what)
            print(f"\n{violation.what}:")
            print("\n".join(violation.trace))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
