"""How much memory a piece of work needs."""

from collections.abc import Callable
from pathlib import Path


def peak_mebibytes(work: Callable[[], object]) -> float:
    """By how much the process grows at most, while it works."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew; ru_maxrss would be the parent's
    before = _status("VmRSS")
    work()
    return (_status("VmHWM") - before) / 1024


def resident_mebibytes() -> float:
    """What the process has in memory now, with the pages of shared libraries."""
    return _status("VmRSS") / 1024


def _status(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])
