#!/usr/bin/env python3
"""Say from a guest's serial file how its heart beats: whether it runs, was restarted, or runs twice.

    deploy/lab/heartbeat.py FILE              what the file says
    deploy/lab/heartbeat.py FILE --watch 5    watched for five seconds: beats in that time, longest silence
    deploy/lab/heartbeat.py FILE --disk IMAGE what the guest's disk holds of its last beats

Prints one JSON object. The guest is deploy/lab/guest.S; standard library only.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

SAMPLE_SECONDS = 0.01
SECTORS, SECTOR_BYTES = 64, 512
"""The part of its disk that a guest writes to; see deploy/lab/guest."""


@dataclass(frozen=True)
class Heartbeat:
    """What a guest's serial file says."""

    beats: int = 0
    """Lines that are beats."""
    last: int = 0
    """The count of the last beat."""
    restarts: int = 0
    """How often the guest began anew: another boot id, or the count at one again."""
    repeats: int = 0
    """Beats whose count was not above all before of the same boot: two copies ran, or an old one ran on."""
    missing: int = 0
    """Counts that were passed over."""

    @property
    def unbroken(self) -> bool:
        """Whether one guest ran, once, and no beat of it is missing."""
        return self.beats > 0 and not (self.restarts or self.repeats or self.missing)


def parse(text: str) -> Heartbeat:
    """The heartbeat in the text of a serial file; a last line that is not complete does not count."""
    beats = restarts = repeats = missing = last = 0
    boot = ""
    for line in text.split("\n")[:-1]:
        words = line.split()
        try:
            count = int(words[1], 16)
        except (IndexError, ValueError):
            continue  # the firmware may write to the line as well
        beats += 1
        if words[0] != boot:
            restarts += 1 if boot else 0
            boot = words[0]
        elif count == 1:
            restarts += 1
        elif count <= last:
            repeats += 1
            continue
        else:
            missing += count - last - 1
        last = count
    return Heartbeat(beats, last, restarts, repeats, missing)


def read(path: str | Path) -> Heartbeat:
    """The heartbeat in a serial file."""
    return parse(Path(path).read_text(errors="replace"))


def watch(path: str | Path, seconds: float) -> tuple[int, float]:
    """How many beats came in that time, and the longest silence, in seconds."""
    path = Path(path)
    size = begin = path.stat().st_size
    started = changed = now = time.monotonic()
    longest = 0.0
    while now - started < seconds:
        time.sleep(SAMPLE_SECONDS)
        now = time.monotonic()
        longest = max(longest, now - changed)
        if (new := path.stat().st_size) != size:
            size, changed = new, now
    with path.open("rb") as file:
        file.seek(begin)
        return file.read(size - begin).count(b"\n"), longest


def parse_disk(data: bytes) -> tuple[int, int]:
    """The last beat on a disk, and how many of the beats before it are missing, of as many as the disk holds.

    A beat of another boot counts as missing.
    """
    held = [struct.unpack_from("<II", data, number * SECTOR_BYTES) for number in range(SECTORS)]
    boot, last = max(held, key=lambda beat: beat[1])
    expected = range(max(1, last - SECTORS + 1), last + 1)
    return last, sum(held[count % SECTORS] != (boot, count) for count in expected)


def read_disk(image: str | Path) -> tuple[int, int]:
    """What ``parse_disk`` says of an image of any format, also of a running guest's; needs qemu-img."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        words = ["dd", "-U", "-O", "raw", f"bs={SECTOR_BYTES}", f"count={SECTORS}", f"if={image}", f"of={raw}"]
        subprocess.run(["qemu-img", *words], check=True, stdout=subprocess.DEVNULL)
        return parse_disk(raw.read_bytes())


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--watch", type=float, metavar="SECONDS")
    parser.add_argument("--disk", type=Path, metavar="IMAGE")
    arguments = parser.parse_args()
    seen: dict[str, float | int | bool] = {}
    if arguments.watch:
        beats, silence = watch(arguments.file, arguments.watch)
        seen = {"watched_beats": beats, "longest_silence_seconds": round(silence, 3)}
    if arguments.disk:
        last, missing = read_disk(arguments.disk)
        seen |= {"disk_last": last, "disk_missing": missing}
    heartbeat = read(arguments.file)
    print(json.dumps(asdict(heartbeat) | {"unbroken": heartbeat.unbroken} | seen))


if __name__ == "__main__":
    main()
