"""What can be read from a guest's serial file."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st


def beats(boot: int, counts: list[int]) -> str:
    """The lines a guest writes."""
    return "".join(f"{boot:08x} {count:08x}\n" for count in counts)


def test_one_guest_is_unbroken(heartbeat: ModuleType) -> None:
    """Counts that go up by one, with the firmware's chatter and a torn last line, are one guest."""
    seen = heartbeat.parse("SeaBIOS\n" + beats(7, [1, 2, 3]) + "00000007 000")
    assert (seen.beats, seen.last, seen.unbroken) == (3, 3, True)
    assert not heartbeat.parse("").unbroken


@pytest.mark.parametrize("boots", [(7, 8), (7, 7)])
def test_restart(heartbeat: ModuleType, boots: tuple[int, int]) -> None:
    """A guest that began anew is seen, even if it drew the same boot id."""
    seen = heartbeat.parse(beats(boots[0], [1, 2, 3]) + beats(boots[1], [1, 2]))
    assert (seen.restarts, seen.last, seen.unbroken) == (1, 2, False)


def test_two_copies(heartbeat: ModuleType) -> None:
    """Two running copies of one guest write the same counts twice."""
    seen = heartbeat.parse(beats(7, [1, 2, 3, 4, 3, 5, 4]))
    assert (seen.repeats, seen.restarts, seen.missing, seen.unbroken) == (2, 0, 0, False)


@given(st.integers(2, 50), st.data())
def test_missing_beats_are_counted(heartbeat: ModuleType, last: int, data: st.DataObject) -> None:
    """However many beats in between are lost, their number is told."""
    kept = sorted(data.draw(st.sets(st.integers(2, last))) | {1, last})
    seen = heartbeat.parse(beats(7, kept))
    assert (seen.beats, seen.missing) == (len(kept), last - len(kept))
    assert seen.unbroken == (len(kept) == last)


def sectors(heartbeat: ModuleType, boot: int, counts: list[int]) -> bytes:
    """The part of a disk that a guest writes to."""
    data = bytearray(heartbeat.SECTORS * heartbeat.SECTOR_BYTES)
    for count in counts:
        struct.pack_into("<II", data, count % heartbeat.SECTORS * heartbeat.SECTOR_BYTES, boot, count)
    return bytes(data)


@pytest.mark.parametrize("last", [0, 1, 63, 64, 65, 1000])
def test_a_whole_disk(heartbeat: ModuleType, last: int) -> None:
    """A disk that took every beat misses none, however often they went round."""
    assert heartbeat.parse_disk(sectors(heartbeat, 7, list(range(1, last + 1)))) == (last, 0)


def test_a_disk_that_lost_writes(heartbeat: ModuleType) -> None:
    """Beats that were not copied are counted, whether an older one or another boot's is in their place."""
    kept = [count for count in range(1, 101) if count not in (90, 95)]
    assert heartbeat.parse_disk(sectors(heartbeat, 7, kept)) == (100, 2)
    disk = bytearray(sectors(heartbeat, 7, list(range(1, 101))))
    struct.pack_into("<II", disk, 80 % heartbeat.SECTORS * heartbeat.SECTOR_BYTES, 8, 80)
    assert heartbeat.parse_disk(bytes(disk)) == (100, 1)


def test_watch_measures_silence(heartbeat: ModuleType, tmp_path: Path) -> None:
    """A guest that says nothing has been silent for the whole time."""
    serial = tmp_path / "serial"
    serial.write_text(beats(7, [1]))
    began = time.monotonic()
    count, silence = heartbeat.watch(serial, 0.05)
    assert count == 0
    assert 0.05 <= silence <= time.monotonic() - began
