"""The lab's helpers under the name by which its tests know them; they are in ``tests/support``."""

from libvirt_lab import COMMANDS, LIVE, Guest, Lab, Recorder, Stage, command, driver, eventually

__all__ = ["COMMANDS", "LIVE", "Guest", "Lab", "Recorder", "Stage", "command", "driver", "eventually"]
