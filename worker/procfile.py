"""The Procfile: which processes there are."""

from __future__ import annotations

import shlex

from worker.errors import SettingsError


def parse_procfile(text: str) -> dict[str, list[str]]:
    """The commands of a Procfile by name, without the shell's ``exec``. Raises ``SettingsError``."""
    commands: dict[str, list[str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, command = line.partition(":")
        words = shlex.split(command)
        if words[:1] == ["exec"]:
            words = words[1:]
        if not colon or not name.strip() or not words:
            raise SettingsError(f"line {number} of the Procfile is not of the form NAME: COMMAND")
        commands[name.strip()] = words
    return commands
