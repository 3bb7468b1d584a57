"""Addresses and blocks as strings of bits: what address parsing and network matching are compared with."""

from __future__ import annotations

HEX = "0123456789abcdefABCDEF"


def bits(text: str) -> str | None:
    """32 or 128 characters 0 and 1, IPv4-mapped addresses as 32; None where the text is no address."""
    if ":" not in text:
        return _version_4(text)
    found = _version_6(text)
    if found is not None and found[:96] == "0" * 80 + "1" * 16:
        return found[96:]
    return found


def in_block(address: str, block_address: str, length: int) -> bool:
    """Whether the address begins with the first `length` bits of the block (both already strings of bits)."""
    return len(address) == len(block_address) and address[:length] == block_address[:length]


def _version_4(text: str) -> str | None:
    parts = text.split(".")
    if len(parts) != 4:
        return None
    result = ""
    for part in parts:
        if part not in {str(number) for number in range(256)}:
            return None
        result += format(int(part), "08b")
    return result


def _version_6(text: str) -> str | None:
    if text.count("::") > 1 or ":::" in text:
        return None
    left, gap, right = text.partition("::")
    first = _groups(left, last_may_be_version_4=not gap)
    second = _groups(right, last_may_be_version_4=True)
    if first is None or second is None:
        return None
    missing = 8 - len(first) - len(second)
    if (gap and missing < 1) or (not gap and missing != 0):
        return None
    return "".join(first + ["0" * 16] * missing + second)


def _groups(text: str, *, last_may_be_version_4: bool) -> list[str] | None:
    if text == "":
        return []
    groups: list[str] = []
    parts = text.split(":")
    for place, part in enumerate(parts):
        if "." in part and place == len(parts) - 1 and last_may_be_version_4:
            version_4 = _version_4(part)
            if version_4 is None:
                return None
            groups += [version_4[:16], version_4[16:]]
        elif 1 <= len(part) <= 4 and all(character in HEX for character in part):
            groups.append(format(int(part, 16), "016b"))
        else:
            return None
    return groups
