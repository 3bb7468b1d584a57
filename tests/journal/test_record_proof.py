"""The proof of one record: it holds for that record, shows no other, and holds no more once anything is changed."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_world import PUBLIC_KEY
from served_journal import Served

from models import chain_model as model
from valetkey.journal import prover
from valetkey.journal.chain import first_link, next_link, segment_path
from valetkey.journal.checkpoint import read_statement, sign, statement_of
from valetkey.journal.proof import BadProof, PersonalProof, Proof, RecordProof, check_proof, read_proof
from valetkey.journal.prover import NotProvable, NotSigned, prove_record
from valetkey.journal.records import Audit

VECTORS = Path(__file__).resolve().parents[2] / "docs" / "formats" / "proof-vectors.json"
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(50, 82)))


def prove(served: Served, which: str, *, personal: bool = False) -> Proof:
    return prove_record(served.folder, PUBLIC_KEY, which, admit=served.admission, personal=personal)


def as_json(proof: Proof) -> dict[str, Any]:
    return json.loads(msgspec.json.encode(proof))  # type: ignore[no-any-return]


def test_a_call_is_proven_by_both_its_records_and_shows_no_other(tmp_path: Path) -> None:
    served = Served(tmp_path)
    worker = served.worker()
    before = served.world.call(worker, holder="someone else", path="/before")
    call = served.world.call(worker, holder="ana", path="/mine")
    after = served.world.call(worker, holder="someone else", path="/after")
    served.tick()
    for _ in range(5):
        served.world.call(worker)
        served.tick()
    proof = prove(served, call.call)
    checked = check_proof(proof, PUBLIC_KEY)
    assert (checked.verdict, checked.detail) == ("ok", "")
    assert [(one.segment, one.seq, one.record["kind"]) for one in checked.records] == [
        (worker.name, 4, "opened"),
        (worker.name, 5, "closed"),
    ]
    assert checked.records[0].record["path"] == "/mine"
    assert model.proof_holds(as_json(proof), PUBLIC_KEY)
    text = msgspec.json.encode(proof).decode()
    for other in (before.call, after.call, "someone else", "/before", "203.0.113.7", "curl"):
        assert other not in text
    assert [len(one.after) for one in proof.records] == [3, 2], "up to the first signature, no further"


def test_it_holds_under_no_other_key_and_says_when_nobody_said_which(tmp_path: Path) -> None:
    served = Served(tmp_path)
    call = served.world.call(served.worker())
    served.tick()
    proof = prove(served, call.call)
    assert check_proof(proof).verdict == "unproven"
    wrong = check_proof(proof, OTHER_KEY.public_key())
    assert (wrong.verdict, wrong.records) == ("broken", [])
    # Who signs it anew with a key of their own is shown to be someone else.
    forged = signed_anew(proof)
    assert check_proof(forged).verdict == "unproven"
    assert check_proof(forged, PUBLIC_KEY).verdict == "broken"
    lying = msgspec.structs.replace(forged, public_key=proof.public_key)
    assert check_proof(lying, PUBLIC_KEY).verdict == check_proof(lying).verdict == "broken"


def signed_anew(proof: Proof) -> Proof:
    records = []
    for one in proof.records:
        said = read_statement(one.statement, one.signature)
        anew = sign(OTHER_KEY, said.number, said.time_ms, said.previous, said.segments)
        records.append(
            msgspec.structs.replace(one, statement=statement_of(anew).decode(), signature=anew.signature)
        )
    return Proof(proof.format, OTHER_KEY.public_key().public_bytes_raw().hex(), tuple(records))


def test_personal_fields_are_shown_only_when_asked_for_and_not_erased(tmp_path: Path) -> None:
    served = Served(tmp_path)
    worker = served.worker()
    call = served.world.call(worker, "198.51.100.9", holder="ana")
    served.tick()
    proof = prove(served, call.call, personal=True)
    checked = check_proof(proof, PUBLIC_KEY)
    assert checked.records[0].personal == {"address": "198.51.100.9", "user_agent": "curl/8"}
    assert checked.records[1].personal is None
    assert model.proof_holds(as_json(proof), PUBLIC_KEY)
    served.erase(party="ana")
    for personal in (True, False):
        opened, closed = check_proof(prove(served, call.call, personal=personal), PUBLIC_KEY).records
        assert (opened.personal, opened.erased, closed.erased) == (None, True, False)
    # A proof that was given out before still holds: what is out cannot be called back.
    assert check_proof(proof, PUBLIC_KEY).verdict == "ok"


def test_an_audit_entry_and_a_place_are_proven_too(tmp_path: Path) -> None:
    served = Served(tmp_path)
    served.control.append(Audit(served.world.tick(), "key:issue", "owner", entry="aud_1", detail={"a": "b"}))
    decoy = {"aud": '"entry":"aud_2"'}
    served.control.append(Audit(served.world.tick(), "key:issue", "owner", entry="aud_3", detail=decoy))
    served.control.append(Audit(served.world.tick(), "key:show", "owner", entry="aud_2"))
    served.tick()
    (one,) = check_proof(prove(served, "aud_2"), PUBLIC_KEY).records
    assert (one.record["action"], one.segment) == ("key:show", served.control.name)
    (same,) = check_proof(prove(served, f"{served.control.name}:{one.seq}"), PUBLIC_KEY).records
    assert same == one
    (first,) = check_proof(prove(served, f"{served.control.name}:1"), PUBLIC_KEY).records
    assert first.record["kind"] == "segment"
    for which in ("aud_9", f"{served.control.name}:999", "nothing", "0" * 8, f"x-control-1:{one.seq}"):
        with pytest.raises(NotProvable):
            prove(served, which)


def test_what_no_checkpoint_signs_yet_is_said_to_be_so(tmp_path: Path) -> None:
    served = Served(tmp_path)
    worker = served.worker()
    served.tick()
    call = served.world.call(worker)
    with pytest.raises(NotSigned):
        prove(served, call.call)
    served.tick()
    assert check_proof(prove(served, call.call), PUBLIC_KEY).verdict == "ok"


def test_a_record_that_was_changed_is_not_proven(tmp_path: Path) -> None:
    served = Served(tmp_path)
    worker = served.worker()
    call, later = served.world.call(worker), served.world.call(worker)
    served.tick()
    path = segment_path(served.folder, worker.name)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"path":"/now"', b'"path":"/not"', 1))
    with pytest.raises(NotProvable, match="changed"):
        prove(served, call.call)
    assert check_proof(prove(served, later.call), PUBLIC_KEY).verdict == "ok", "the links beside it stand"


def test_a_proof_in_which_any_character_is_changed_does_not_hold(tmp_path: Path) -> None:
    served = Served(tmp_path)
    worker = served.worker()
    call = served.world.call(worker)
    served.world.call(worker)
    served.tick()
    text = msgspec.json.encode(prove(served, call.call, personal=True))
    for place in range(len(text)):
        for changed in (text[place] ^ 1, text[place] ^ 16):
            altered = text[:place] + bytes([changed]) + text[place + 1 :]
            try:
                proof = read_proof(altered)
            except BadProof:
                continue
            assert check_proof(proof, PUBLIC_KEY).verdict == "broken" or proof == read_proof(text), place


def test_left_out_and_added_records_are_noticed(tmp_path: Path) -> None:
    served = Served(tmp_path)
    worker = served.worker()
    call = served.world.call(worker)
    served.world.call(worker)
    served.tick()
    (opened, closed) = prove(served, call.call).records
    for changed in (
        msgspec.structs.replace(opened, after=opened.after[1:]),
        msgspec.structs.replace(opened, after=(*opened.after, opened.after[0])),
        msgspec.structs.replace(opened, after=(opened.after[1], opened.after[0], *opened.after[2:])),
        msgspec.structs.replace(opened, payload=closed.payload),
        msgspec.structs.replace(opened, segment=served.control.name),
        msgspec.structs.replace(opened, before=opened.after[0]),
    ):
        proof = Proof("valetkey-proof-1", PUBLIC_KEY.public_bytes_raw().hex(), (changed,))
        assert check_proof(proof, PUBLIC_KEY).verdict == "broken"
        assert not model.proof_holds(as_json(proof), PUBLIC_KEY)
    assert (
        check_proof(Proof("valetkey-proof-1", PUBLIC_KEY.public_bytes_raw().hex(), ()), PUBLIC_KEY).verdict
        == "broken"
    )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"format":"valetkey-proof-2","public_key":"","records":[]}',
        b"{}",
    ],
)
def test_what_is_no_proof_is_told_so(text: bytes) -> None:
    with pytest.raises(BadProof):
        read_proof(text)


def signed_proof(payload: str, personal: PersonalProof | None = None) -> Proof:
    """The proof of a one-record segment, as whoever holds a key of their own can make it."""
    name = "00000001764000000000-w0-1"
    before = first_link(name)
    head = next_link(before, payload.encode()).hex()
    checkpoint = sign(OTHER_KEY, 1, 1764000000000, None, {name: (1, head)})
    statement = statement_of(checkpoint).decode()
    record = RecordProof(name, payload, before.hex(), (), statement, checkpoint.signature, personal)
    return Proof("valetkey-proof-1", OTHER_KEY.public_key().public_bytes_raw().hex(), (record,))


def test_a_record_nested_beyond_reading_is_no_record() -> None:
    assert check_proof(signed_proof('{"seq":1,"kind":"new"}')).verdict == "unproven"
    deep = check_proof(signed_proof('{"seq":1,"kind":' + "[" * 100_000))
    assert (deep.verdict, deep.detail) == ("broken", "What it shows is no record.")


def test_personal_fields_nested_beyond_reading_prove_nothing() -> None:
    salt, fields = "00" * 16, '{"address":' + "[" * 100_000
    commitment = sha256(bytes(16) + fields.encode()).hexdigest()
    payload = '{"seq":1,"kind":"new","personal":"' + commitment + '"}'
    deep = check_proof(signed_proof(payload, PersonalProof(salt, fields)))
    assert (deep.verdict, deep.detail) == ("broken", "Record 1: the personal fields cannot be read.")


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.sampled_from(["call", "tick", "restart", "back", "refusal"]), min_size=1, max_size=30)
)
def test_every_call_of_any_journal_is_proven(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prover, "SLACK", 0.3)
        served = Served(tmp_path_factory.mktemp("proven"))
        worker = served.worker()
        calls: list[str] = []
        for step in steps:
            if step == "call":
                calls.append(served.world.call(worker).call)
            elif step == "refusal":
                served.world.refusal(worker)
            elif step == "tick":
                served.tick()
            elif step == "back":
                served.world.now -= 5.0
                worker.close()
                worker = served.worker()
            else:
                worker.close()
                served.stop()
                served.start()
                worker = served.worker()
        served.tick()
        for call in calls:
            proof = prove(served, call)
            checked = check_proof(proof, PUBLIC_KEY)
            assert [one.record["kind"] for one in checked.records] == ["opened", "closed"]
            assert model.proof_holds(as_json(proof), PUBLIC_KEY)
        worker.close()
        served.kill()


def test_a_record_in_a_long_segment_is_found_by_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prover, "SLACK", 1.0)
    served = Served(tmp_path)
    worker = served.worker()
    calls = [served.world.call(worker, path=f"/{'x' * 200}").call for _ in range(1_500)]
    served.tick()
    read = 0
    real = prover.lines_of

    def counting(descriptor: int, offset: int, end: int | None = None) -> Any:
        nonlocal read
        for line in real(descriptor, offset, end):
            read += len(line)
            yield line

    monkeypatch.setattr(prover, "lines_of", counting)
    found = prover._find_call(served.folder, [prover.SegmentName.parse(worker.name)], calls[700])
    assert [one.seq for one in found] == [1402, 1403]
    assert read < segment_path(served.folder, worker.name).stat().st_size / 4


# The vectors


def cases(folder: Path) -> dict[str, Any]:
    """The file of the vectors, from the journal of journal-vectors.json."""
    from valetkey.journal.admission import read_admission

    journal = json.loads(VECTORS.with_name("journal-vectors.json").read_text("utf-8"))
    folder.mkdir()
    for name, content in journal["files"].items():
        (folder / name).write_text(content, "utf-8")
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(journal["public_key"]))
    admit = read_admission(folder, [key])
    flood = next(
        json.loads(line[:-65])["call"]
        for name, content in journal["files"].items()
        if "-w0-2.seg" in name
        for line in content.splitlines()
        if '"kind":"flood"' in line
    )
    good = as_json(prove_record(folder, key, flood, admit=admit))
    personal = as_json(prove_record(folder, key, flood, admit=admit, personal=True))
    entry = as_json(prove_record(folder, key, "aud_1", admit=admit))

    def changed(proof: dict[str, Any], **fields: Any) -> dict[str, Any]:
        return {**proof, "records": [{**proof["records"][0], **fields}]}

    record = good["records"][0]
    first = record["signature"][0]
    return {
        "about": "Test vectors of docs/formats/proof.md. `ok` holds under public_key, `broken` does not.",
        "public_key": journal["public_key"],
        "cases": [
            {"about": "a flood of refused calls", "verdict": "ok", "proof": good},
            {"about": "the same with its personal fields", "verdict": "ok", "proof": personal},
            {"about": "the same, erased", "verdict": "ok", "proof": changed(good, erased=True)},
            {"about": "an audit entry", "verdict": "ok", "proof": entry},
            {
                "about": "another count in the record",
                "verdict": "broken",
                "proof": changed(good, payload=record["payload"].replace('"count":44', '"count":4')),
            },
            {
                "about": "a digest is left out",
                "verdict": "broken",
                "proof": changed(good, after=record["after"][1:]),
            },
            {
                "about": "another link before it",
                "verdict": "broken",
                "proof": changed(good, before="00" * 32),
            },
            {
                "about": "another signature",
                "verdict": "broken",
                "proof": changed(good, signature=("0" if first != "0" else "1") + record["signature"][1:]),
            },
            {
                "about": "other personal fields",
                "verdict": "broken",
                "proof": changed(
                    personal,
                    personal={**personal["records"][0]["personal"], "fields": '{"address":"192.0.2.1"}'},
                ),
            },
            {
                "about": "personal fields beside the word that they are erased",
                "verdict": "broken",
                "proof": changed(personal, erased=True),
            },
            {
                "about": "an audit entry, which has none, as erased",
                "verdict": "broken",
                "proof": changed(entry, erased=True),
            },
            {"about": "no record", "verdict": "broken", "proof": {**good, "records": []}},
        ],
    }


def test_the_vectors_are_what_our_prover_makes(tmp_path: Path) -> None:
    assert cases(tmp_path / "journal") == json.loads(VECTORS.read_text("utf-8"))


def test_the_vectors_hold_as_they_say_for_us_and_for_the_model() -> None:
    vectors = json.loads(VECTORS.read_text("utf-8"))
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(vectors["public_key"]))
    for case in vectors["cases"]:
        proof = read_proof(json.dumps(case["proof"]).encode())
        assert check_proof(proof, key).verdict == case["verdict"], case["about"]
        assert model.proof_holds(case["proof"], key) == (case["verdict"] == "ok"), case["about"]


def test_the_page_names_every_field() -> None:
    page = VECTORS.with_name("proof.md").read_text("utf-8")
    for field in ("format", "public_key", "records", "segment", "payload", "before", "after", "statement"):
        assert f"`{field}`" in page
    for field in ("signature", "personal", "salt", "fields", "erased"):
        assert f"`{field}`" in page
