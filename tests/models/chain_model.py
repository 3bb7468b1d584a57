"""The journal's format, slow and obvious: what docs/formats/journal.md says, written down once more.

Imports nothing of the code under test; the fast code is compared with it.
"""

from __future__ import annotations

import hashlib
import json

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def links(name: str, payloads: list[bytes]) -> list[str]:
    """The link behind each payload of a segment, in hex."""
    link = hashlib.sha256(b"valetkey-journal-1" + name.encode()).digest()
    answer = []
    for payload in payloads:
        link = hashlib.sha256(link + hashlib.sha256(payload).digest()).digest()
        answer.append(link.hex())
    return answer


def segment_bytes(name: str, payloads: list[bytes]) -> bytes:
    """The whole file of a segment with these payloads."""
    lines = zip(payloads, links(name, payloads), strict=True)
    return b"".join(payload + b" " + link.encode() + b"\n" for payload, link in lines)


def read_segment(name: str, content: bytes) -> tuple[list[dict[str, object]], bytes, bool]:
    """Records of a segment, the bytes behind the last good one, and whether all of it is good."""
    records: list[dict[str, object]] = []
    link = hashlib.sha256(b"valetkey-journal-1" + name.encode()).digest()
    while content:
        line, newline, rest = content.partition(b"\n")
        payload, space, digits = line[:-65], line[-65:-64], line[-64:]
        link = hashlib.sha256(link + hashlib.sha256(payload).digest()).digest()
        if newline != b"\n" or space != b" " or digits != link.hex().encode():
            return records, content, False
        record = json.loads(payload)
        if list(record)[:2] != ["seq", "kind"] or record["seq"] != len(records) + 1:
            return records, content, False
        records.append(record)
        content = rest
    return records, b"", True


def commitment(salt: bytes, fields: bytes) -> str:
    return hashlib.sha256(salt + fields).hexdigest()


def personal_fields(content: bytes) -> dict[int, tuple[str, dict[str, object]] | None]:
    """Record number -> commitment and fields of its personal line, None where they were erased."""
    answer: dict[int, tuple[str, dict[str, object]] | None] = {}
    for line in content.split(b"\n")[:-1]:
        number, _, rest = line.partition(b" ")
        if not rest.strip(b" "):
            answer[int(number)] = None
            continue
        salt, fields = rest[:32], rest[33:]
        answer[int(number)] = (commitment(bytes.fromhex(salt.decode()), fields), json.loads(fields))
    return answer


def open_calls(records: list[dict[str, object]]) -> list[str]:
    """VALID calls that have no closed record, in the order they came."""
    closed = {record["call"] for record in records if record["kind"] == "closed"}
    return [
        str(record["call"])
        for record in records
        if record["kind"] == "opened" and record["code"] == "VALID" and record["call"] not in closed
    ]


def statement(
    number: int, time_ms: int, previous: str | None, key: str, segments: dict[str, tuple[int, str]]
) -> bytes:
    """The text a checkpoint signs."""
    text = f"valetkey-checkpoint-1\nnumber {number}\ntime {time_ms}\nprevious {previous or '-'}\nkey {key}\n"
    for name in sorted(segments):
        count, head = segments[name]
        text += f"segment {name} {count} {head}\n"
    return text.encode()


def started_statement(note: dict[str, object]) -> bytes:
    """The text that an announcement signs."""
    return (
        f"valetkey-started-1\ntime {note['time_ms']}\nwriter {note['writer']}\n"
        f"generation {note['generation']}\nnot-before {note['start_not_before_ms']}\n"
        f"segment {note.get('segment', '-')}\nkey {note['key_id']}\n"
    ).encode()


def erased_statement(note: dict[str, object]) -> bytes:
    """The text that the note of an erasure signs."""
    text = f"valetkey-erased-1\ntime {note['time_ms']}\nsegment {note['segment']}\n"
    text += f"reason {note['reason']}\nnumber {note['number']}\n"
    for first, last in note["ranges"]:  # type: ignore[attr-defined]
        text += f"records {first} {last}\n"
    return (text + f"key {note['key_id']}\n").encode()


def blank_without_note(content: bytes, ranges: list[tuple[int, int]]) -> list[int]:
    """Numbers of the blank lines of a personal file that no range holds."""
    return [
        number
        for number, line in personal_fields(content).items()
        if line is None and not any(first <= number <= last for first, last in ranges)
    ]


def proof_holds(proof: dict[str, object], public_key: Ed25519PublicKey) -> bool:
    """What docs/formats/proof.md says, step by step."""
    records = proof["records"]
    assert isinstance(records, list)
    if proof["format"] != "valetkey-proof-1" or proof["public_key"] != public_key.public_bytes_raw().hex():
        return False
    return bool(records) and all(_record_holds(record, public_key) for record in records)


def _record_holds(proof: dict[str, object], public_key: Ed25519PublicKey) -> bool:
    payload, segment, statement = (
        str(proof["payload"]).encode(),
        str(proof["segment"]),
        str(proof["statement"]),
    )
    seq = json.loads(payload)["seq"]
    link = bytes.fromhex(str(proof["before"]))
    if seq == 1 and link != hashlib.sha256(b"valetkey-journal-1" + segment.encode()).digest():
        return False
    link = hashlib.sha256(link + hashlib.sha256(payload).digest()).digest()
    after = proof["after"]
    assert isinstance(after, list)
    for digest in after:
        link = hashlib.sha256(link + bytes.fromhex(digest)).digest()
    if f"segment {segment} {seq + len(after)} {link.hex()}" not in statement.split("\n"):
        return False
    try:
        public_key.verify(bytes.fromhex(str(proof["signature"])), statement.encode())
    except InvalidSignature:
        return False
    beside = proof.get("personal")
    if proof.get("erased") and (beside is not None or "personal" not in json.loads(payload)):
        return False
    if beside is None:
        return True
    assert isinstance(beside, dict)
    return bool(
        json.loads(payload)["personal"]
        == commitment(bytes.fromhex(beside["salt"]), beside["fields"].encode())
    )
