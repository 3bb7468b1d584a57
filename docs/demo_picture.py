"""The picture of the demo, for docs/generate.py: what `valetkey demo` really wrote to a terminal, as SVG."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress

COLUMNS = 124
_FOLDER = re.compile(r"valetkey-demo-\w+")

# Rich's own template loads a font from a stranger's server; this one uses what the reader has.
_FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img"
     aria-label="The output of valetkey demo">
    <style>
    .{unique_id}-matrix {{
        font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
        font-size: {char_height}px;
        line-height: {line_height}px;
        font-variant-east-asian: full-width;
    }}
    {styles}
    </style>
    <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
    {lines}
    </defs>
    {chrome}
    <g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
    </g>
</svg>
"""


def run_demo() -> str:
    """What the demo writes to a terminal, colours included. Raises RuntimeError when it fails."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 60, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    demo = subprocess.Popen(
        [sys.executable, "-m", "valetkey", "demo"], env=environment, stdout=slave, stderr=slave, stdin=slave
    )
    os.close(slave)
    written = bytearray()
    with suppress(OSError):  # Linux says EIO when the other end is gone
        while piece := os.read(master, 4096):
            written += piece
    os.close(master)
    status = demo.wait()
    text = written.decode("utf-8", "replace").replace("\r\n", "\n")
    if status != 0:
        raise RuntimeError(f"The demo failed:\n{text}")
    return _FOLDER.sub("valetkey-demo-…", text)


def draw() -> str:
    """The picture as SVG."""
    from rich.console import Console
    from rich.terminal_theme import TerminalTheme
    from rich.text import Text

    theme = TerminalTheme(
        (22, 24, 29),
        (214, 218, 226),
        [
            (22, 24, 29),
            (240, 110, 110),
            (120, 200, 130),
            (230, 190, 90),
            (110, 160, 240),
            (200, 140, 230),
            (90, 200, 210),
            (214, 218, 226),
        ],
    )
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, highlight=False)
        console.print(Text.from_ansi("$ script/demo\n" + run_demo().rstrip()))
        return console.export_svg(title="valetkey demo", theme=theme, code_format=_FORMAT, unique_id="demo")
