"""docs/formats/journal-vectors.json: the model reads it, our reader proves it, our writer writes it again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from models import chain_model as model
from valetkey.journal import records, segment
from valetkey.journal.call_id import call_id
from valetkey.journal.chain import SegmentName, personal_path, segment_path
from valetkey.journal.checkpoint import Checkpointer, key_id
from valetkey.journal.notes import Notary
from valetkey.journal.personal import erase_personal
from valetkey.journal.randomness import RandomPool
from valetkey.journal.records import Audit, Closed, End, Flood, Opened, Personal
from valetkey.journal.recover import recover_segment
from valetkey.journal.segment import SegmentWriter
from valetkey.journal.tail import Tailer
from valetkey.journal.verdict import What
from valetkey.journal.verify import verify_journal

VECTORS = Path(__file__).resolve().parents[2] / "docs" / "formats" / "journal-vectors.json"
SIGNING_KEY = bytes(range(1, 33))


def counting_bytes(size: int) -> bytes:
    """Stands in for random bytes, so that the vectors are the same each time."""
    return bytes(index % 256 for index in range(size))


def build(folder: Path) -> dict[str, Any]:
    """Write the journal of the vectors. Every kind of record is in it."""
    random = RandomPool(counting_bytes)
    start = 1_764_000_000_000
    control = SegmentWriter(folder, SegmentName(start, "control", 1), time=start / 1000, random=random)
    worker = SegmentWriter(
        folder,
        SegmentName(start + 1, "w0", 2),
        time=start / 1000 + 0.001,
        random=random,
        previous=None,
    )
    signing_key = Ed25519PrivateKey.from_private_bytes(SIGNING_KEY)
    notary = Notary(signing_key, control)
    notary.started_itself(start)
    notary.started("w0", 2, start + 1, start + 1)
    control.append(
        Audit(
            1764000000.5,
            "key:issue",
            "owner",
            entry="aud_1",
            subject="key_1",
            door="cli",
            detail={"rate": "5/s"},
        )
    )
    first = Opened(
        call_id(start + 1000, counting_bytes(10)),
        1764000001.0,
        "VALID",
        workspace="default",
        environment="production",
        service="weather",
        key_id="key_1",
        key_kind="private",
        holder="prt_1",
        method="GET",
        path='/data/2.5/ünï "quoted"',
        endpoint="GET /data/2.5/*",
        query_names=("q", "units"),
        cost_reserved=10_000,
        port=51234,
    )
    worker.append(first, personal=Personal("203.0.113.7", "curl/8.9", origin="https://app.example"))
    worker.append(
        Closed(
            first.call,
            1764000001.25,
            End.COMPLETE,
            status=200,
            bytes_out=512,
            first_byte_ms=200.5,
            last_byte_ms=249.75,
            cost=10_000,
        )
    )
    second = Opened(
        call_id(start + 2000, counting_bytes(10)), 1764000002.0, "UNKNOWN_KEY", fingerprint="ab" * 16
    )
    worker.append(
        second,
        Closed(second.call, 1764000002.0, End.REFUSED, status=401),
        personal=Personal("2001:db8::1"),
    )
    flood = call_id(start + 3000, counting_bytes(10))
    worker.append(Flood(flood, 1764000063.0, "MALFORMED", 44, 1764000003.0), personal=Personal("2001:db8::"))
    third = Opened(call_id(start + 4000, counting_bytes(10)), 1764000064.0, "VALID", cost_reserved=7)
    worker.append(third, personal=None)
    worker.close()
    torn = b'{"seq":8,"kind":"opened","call":"019ab'
    path = segment_path(folder, worker.name)
    path.write_bytes(path.read_bytes() + torn)
    recover_segment(path, time=1764000100.0)
    erase_personal(
        folder, older_than=1764000001.5, note=lambda erasure: notary.erased(erasure, start + 100_500)
    )
    control.seal(1764000101.0)
    tailer = Tailer(folder)
    tailer.poll()
    Checkpointer(signing_key, control, None, 0).make(tailer.heads(), 1_764_000_101_000, 0)
    tailer.close()
    control.close()
    public = signing_key.public_key()
    return {
        "about": "Test vectors of docs/formats/journal.md. The signing key signs nothing else.",
        "public_key": public.public_bytes_raw().hex(),
        "key_id": key_id(public),
        "files": {file.name: file.read_text("utf-8") for file in sorted(folder.iterdir())},
        "heads": {name: [count, head] for name, (count, head) in sorted(tailer.heads().items())}
        | {control.name: [control.count, control.head]},
        "erased": 1,
        "interrupted": [third.call],
    }


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(VECTORS.read_text("utf-8"))
    return answer


def test_the_model_reads_the_vectors(vectors: dict[str, Any]) -> None:
    kinds: set[object] = set()
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(vectors["public_key"]))
    for file, text in vectors["files"].items():
        name, _, suffix = file.partition(".")
        if suffix != "seg":
            continue
        found, rest, good = model.read_segment(name, text.encode())
        assert good
        assert rest == b""
        assert vectors["heads"][name] == [len(found), text[-65:-1]]
        beside = model.personal_fields(vectors["files"][f"{name}.personal"].encode())
        committed = {record["seq"]: record["personal"] for record in found if "personal" in record}
        assert set(beside) == set(committed)
        assert all(line is None or line[0] == committed[number] for number, line in beside.items())
        kinds |= {record["kind"] for record in found}
        for record in found:
            if record["kind"] == "checkpoint":
                statement = model.statement(
                    record["number"],  # type: ignore[arg-type]
                    record["time_ms"],  # type: ignore[arg-type]
                    record["previous"],  # type: ignore[arg-type]
                    vectors["key_id"],
                    record["segments"],  # type: ignore[arg-type]
                )
                public.verify(bytes.fromhex(str(record["signature"])), statement)
            elif record["kind"] in ("started", "erased"):
                started = record["kind"] == "started"
                note = model.started_statement(record) if started else model.erased_statement(record)
                public.verify(bytes.fromhex(str(record["signature"])), note)
    assert kinds == {
        *("segment", "opened", "closed", "flood", "audit"),
        *("recovered", "sealed", "checkpoint", "started", "erased"),
    }


def test_our_reader_proves_the_vectors(vectors: dict[str, Any], tmp_path: Path) -> None:
    for file, text in vectors["files"].items():
        (tmp_path / file).write_text(text, "utf-8")
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(vectors["public_key"]))
    heads = {name: (count, head) for name, (count, head) in vectors["heads"].items()}
    report = verify_journal(tmp_path, [public], heads)
    assert (report.integrity, report.completeness, report.problems) == ("ok", "ok", [])
    assert report.erased == vectors["erased"]


def test_our_writer_writes_the_vectors(
    vectors: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "product_version", lambda: "0.1.0")
    built = build(tmp_path / "journal")
    assert built == vectors
    assert personal_path(tmp_path / "journal", "x").name == "x.personal"


def test_the_page_names_every_kind_field_end_and_problem() -> None:
    page = (VECTORS.parent / "journal.md").read_text("utf-8")
    words = {word for quoted in re.findall(r"`([^`]+)`", page) for word in re.split(r"[ ,]+", quoted)}
    phrases = set(re.findall(r"`([^`]+)`", page))
    for kind in get_args(records.AnyRecord):
        assert kind.__struct_config__.tag in words
        assert set(kind.__struct_fields__) <= words
    assert set(End) <= words
    assert set(What) <= phrases
