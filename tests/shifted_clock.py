"""A wall clock that a test sets for a whole server, without touching the machine's.

Every Python process that is given `environment` reads `time.time()` from a file beside the true time: the folder holds
a `sitecustomize` that puts that in place before anything of the product is loaded.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

_CUSTOMISE = """
import mmap, struct, time
with open({file!r}, "rb") as file:
    shift = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
true_time, true_time_ns = time.time, time.time_ns
time.time = lambda: true_time() + struct.unpack("d", shift)[0]
time.time_ns = lambda: true_time_ns() + int(struct.unpack("d", shift)[0] * 1e9)
"""


class ShiftedClock:
    """Seconds between the clock of a server and the machine's."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "shift"
        self.set(0.0)
        (folder / "sitecustomize.py").write_text(_CUSTOMISE.format(file=str(self._file)))
        before = os.environ.get("PYTHONPATH")
        self.environment = {"PYTHONPATH": str(folder) if before is None else f"{folder}{os.pathsep}{before}"}

    def set(self, seconds: float) -> None:
        """Ahead of the machine's clock by so much from now on; behind it where negative."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("d", seconds))
