"""A relay for tests that drain, return to and roll over its hosts."""

from __future__ import annotations

import json
from typing import Any

from relay_lab import Relay, until

from worker.journal.batch import Batch
from worker.journal.rolls import Roll


class DrainRelay(Relay):
    """Some guests must stay where they are, and planning is told that hosts are large enough; what drains are asked."""

    def inventory(self) -> str:
        """Hosts of a terabyte, so that a guest may be so large that it takes a while to move."""
        hosts = "".join(
            f'[hosts.{h}]\nuri = "vzsim://{{state_dir}}/simulator/{h}.sock"\nmemory_mib = 1000000\n' for h in self.hosts
        )
        return hosts + (
            '[rules.licensed]\nkind = "pinned"\ndomains = ["licensed-*"]\nreason = "its license is bound to the host"\n'
        )

    def on(self, host: str) -> set[str]:
        """The names of a host's guests: a fresh look."""
        return {str(vm["name"]) for vm in self.ask(host, "show")["vms"]}

    def batch(self, ident: str, state: str = "finished") -> Batch:
        """A batch, once it has come so far."""

        def there() -> Batch | None:
            found = self.journal.batch(ident)
            return found if found and (found.asked if state == "moving" else found.state == state) else None

        found = until(there, f"batch {ident} is {state}")
        assert found is not None
        return found

    def drained(self, *hosts: str) -> Batch:
        """Drain hosts; the batch when it is over."""
        return self.batch(self.send("vmrelay.v1.drain", hosts=list(hosts)))

    def returned(self, *hosts: str) -> Batch:
        """Return to hosts; the batch when it is over."""
        return self.batch(self.send("vmrelay.v1.return", hosts=list(hosts)))

    def roll(self, ident: str, state: str = "finished", step: str = "") -> Roll:
        """A roll, once it is in this state, and at this step where one is named."""

        def there() -> Roll | None:
            found = self.journal.roll(ident)
            return found if found and found.state == state and step in ("", found.step) else None

        found = until(there, f"roll {ident} is {state} {step}")
        assert found is not None
        return found

    def refusal(self, task: str, **arguments: Any) -> str:
        """What a task is refused with."""
        ident = self.send(task, **arguments)
        until(lambda: self.result(ident)["status"] == "FAILURE", f"{task} is refused")
        return str(self.result(ident)["result"])

    def receipt(self, *words: str, code: int = 0) -> dict[str, Any]:
        """What a command that makes a batch prints in the end."""
        done = self.cli(*words, "-o", "json")
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr, self.log("scheduler")[-2000:])
        found: dict[str, Any] = json.loads(done.stdout)
        return found
