"""Slow model of which addresses calls may go to: lists of first and last address, gone through."""

from __future__ import annotations


def v4(text: str) -> int:
    total = 0
    for part in text.split("."):
        total = total * 256 + int(part)
    return total


METADATA_4 = [
    v4(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
    )
]
NEVER_4 = [
    ("0.0.0.0", "0.255.255.255"),
    ("192.0.0.0", "192.0.0.255"),
    ("192.88.99.0", "192.88.99.255"),
    ("224.0.0.0", "255.255.255.255"),
]
PRIVATE_4 = [
    ("10.0.0.0", "10.255.255.255"),
    ("100.64.0.0", "100.127.255.255"),
    ("127.0.0.0", "127.255.255.255"),
    ("169.254.0.0", "169.254.255.255"),
    ("172.16.0.0", "172.31.255.255"),
    ("192.0.2.0", "192.0.2.255"),
    ("192.168.0.0", "192.168.255.255"),
    ("198.18.0.0", "198.19.255.255"),
    ("198.51.100.0", "198.51.100.255"),
    ("203.0.113.0", "203.0.113.255"),
]


def reach_4(value: int) -> str:
    if value in METADATA_4:
        return "never"
    for first, last in NEVER_4:
        if v4(first) <= value <= v4(last):
            return "never"
    for first, last in PRIVATE_4:
        if v4(first) <= value <= v4(last):
            return "private"
    return "public"


def groups(value: int) -> list[int]:
    return [(value >> (16 * (7 - index))) & 0xFFFF for index in range(8)]


def reach_6(value: int) -> str:
    g = groups(value)
    low = g[6] * 65536 + g[7]
    if g[:5] == [0, 0, 0, 0, 0] and g[5] == 0xFFFF:
        return reach_4(low)
    if g[:6] == [0, 0, 0, 0, 0, 0]:
        if low == 0:
            return "never"
        return "private" if low == 1 else reach_4(low)
    if g[:6] == [0x64, 0xFF9B, 0, 0, 0, 0]:
        return reach_4(low)
    if g[0] == 0x2002:
        return reach_4(g[1] * 65536 + g[2])
    if g[:7] == [0xFD00, 0x0EC2, 0, 0, 0, 0, 0] and g[7] in (0x254, 0x23):
        return "never"
    if g == [0xFD20, 0x00CE, 0, 0, 0, 0, 0, 0x254]:
        return "never"
    if 0xFC00 <= g[0] <= 0xFDFF or 0xFE80 <= g[0] <= 0xFEFF:
        return "private"  # unique local, link-local, site-local
    if g[0] == 0x2001 and g[1] < 0x200:
        return "never"  # protocol assignments
    if (g[0] == 0x2001 and g[1] == 0xDB8) or (g[0] == 0x3FFF and g[1] < 0x1000):
        return "private"  # documentation
    return "public" if 0x2000 <= g[0] <= 0x3FFF else "never"


def allowed(version: int, value: int, allow_private: bool) -> bool:
    reach = reach_4(value) if version == 4 else reach_6(value)
    return reach == "public" or (reach == "private" and allow_private)
