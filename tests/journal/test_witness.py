"""What a witness holds finds out even him who has the signing key: the journal written anew, and its lost end."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from journal_world import PUBLIC_KEY, SIGNING_KEY
from proven_journal import named
from whole_journal import Whole

from models import chain_model as model
from valetkey.journal.checkpoint import digest, key_id, read_statement, sign, statement_of
from valetkey.journal.notes import records_marked
from valetkey.journal.records import Checkpoint, decode_record, encode_record
from valetkey.journal.verdict import Report
from valetkey.journal.verify import verify_journal
from valetkey.journal.witness import WitnessFile, line_of, read_line


def checkpoints(whole: Whole) -> list[Checkpoint]:
    found = [
        record
        for file in whole.segments
        if "control" in file
        for record in records_marked(whole.folder / file, b"", (b"checkpoint",))
        if isinstance(record, Checkpoint)
    ]
    return sorted(found, key=lambda checkpoint: checkpoint.number)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A journal, and what its witness holds."""
    folder = tmp_path_factory.mktemp("made")
    whole = Whole(folder)
    return folder, b"".join(line_of(checkpoint) + b"\n" for checkpoint in checkpoints(whole))


class Case:
    """A copy of it that may be spoilt."""

    def __init__(self, folder: Path, made: tuple[Path, bytes]) -> None:
        shutil.copytree(made[0] / "journal", folder / "journal")
        self.folder = folder / "journal"
        self.witness = folder / "witness.jsonl"
        self.witness.write_bytes(made[1])
        self.names = sorted(path.stem for path in self.folder.glob("*.seg"))
        self.payloads = {
            name: [line[:-65] for line in (self.folder / f"{name}.seg").read_bytes().split(b"\n")[:-1]]
            for name in self.names
        }

    def verify(self, *, witness: bool = True) -> Report:
        held = WitnessFile(self.witness) if witness else None
        try:
            return verify_journal(self.folder, [PUBLIC_KEY], {}, witness=held)
        finally:
            if held is not None:
                held.close()

    def write(self) -> None:
        """Write all segments with chains that are right, as anyone can."""
        for name, payloads in self.payloads.items():
            (self.folder / f"{name}.seg").write_bytes(model.segment_bytes(name, payloads))

    def forge(self) -> None:
        """Sign everything anew, as only he who holds the signing key can."""
        self.write()
        previous: str | None = None
        for name in [name for name in self.names if "control" in name]:
            for index, payload in enumerate(self.payloads[name]):
                if b'"kind":"checkpoint"' not in payload:
                    continue
                record = decode_record(payload)
                assert isinstance(record, Checkpoint)
                heads = {}
                for stem, (count, _) in record.segments.items():
                    count = min(count, len(self.payloads[stem]))
                    heads[stem] = (count, model.links(stem, self.payloads[stem])[count - 1])
                fresh = sign(SIGNING_KEY, record.number, record.time_ms, previous, heads)
                previous = digest(fresh)
                body = encode_record(fresh)
                self.payloads[name][index] = b'{"seq":%d,' % (index + 1) + body[1:]
        self.write()

    def drop(self, name: str, keep: int) -> None:
        del self.payloads[name][keep:]


@pytest.fixture
def case(tmp_path: Path, made: tuple[Path, bytes]) -> Case:
    return Case(tmp_path, made)


def test_a_witness_that_agrees_changes_no_verdict(case: Case) -> None:
    report = case.verify()
    assert (report.integrity, report.completeness, report.problems) == ("ok", "ok", [])
    assert report.witnessed == report.checkpoints == 7
    case.forge()  # nothing was changed: signing again gives the same
    assert case.verify().problems == []


def test_each_record_that_the_holder_of_the_key_changed_is_found(case: Case) -> None:
    """Whatever he changes, the proof alone sees nothing and the witness names the record from which on."""
    kept = {name: [*payloads] for name, payloads in case.payloads.items()}
    tried = 0
    for name in case.names:
        for index, payload in enumerate(kept[name]):
            if b'"kind":"checkpoint"' in payload or b'"kind":"started"' in payload or b'"erased"' in payload:
                continue  # signed themselves
            changed = payload.replace(b'e":1764', b'e":1765')
            assert changed != payload
            case.payloads = {stem: [*payloads] for stem, payloads in kept.items()}
            case.payloads[name][index] = changed
            case.forge()
            assert case.verify(witness=False).problems == [], (name, index)
            report = case.verify()
            detail = (name, index + 1, report.problems)
            assert (report.integrity, report.completeness) == ("broken", "broken"), detail
            starts = [seq for stem, seq, what in named(report) if stem == name and what == "rewritten"]
            behind = index + 1 == len(kept[name]) and "control" in name
            assert starts or behind, detail
            # The record stands among those that are named, and no segment that is the same is named.
            assert any(seq is not None and seq <= index + 1 for seq in starts), detail
            others = {stem for stem, _, what in named(report) if what == "rewritten" and stem != name}
            assert others <= {stem for stem in case.names if "control" in stem}, detail
            tried += 1
    assert tried > 20


def test_the_first_record_that_differs_is_bounded_by_the_checkpoints_that_agree(case: Case) -> None:
    third = case.names[-1]
    changed = case.payloads[third][1].replace(b'"/now"', b'"/not"')
    assert changed != case.payloads[third][1]
    case.payloads[third][1] = changed
    case.forge()
    report = case.verify()
    assert report.witnessed == 5  # the two later ones cover it
    assert (third, 1, "rewritten") in named(report)
    assert not any(stem == case.names[0] for stem, _, _ in named(report))


@pytest.mark.parametrize("kept_lines", [[-1], [0, -1], [2, 4]])
def test_a_few_lines_of_the_witness_are_enough(case: Case, kept_lines: list[int]) -> None:
    lines = case.witness.read_bytes().splitlines(keepends=True)
    case.witness.write_bytes(b"".join(lines[index] for index in kept_lines))
    assert case.verify().problems == []
    first = case.names[1]
    case.payloads[first][1] = case.payloads[first][1].replace(b'"/now"', b'"/not"')
    case.forge()
    assert case.verify(witness=False).problems == []
    report = case.verify()
    assert report.integrity == "broken"
    assert any(what == "rewritten" for _, _, what in named(report))


def test_a_lost_end_is_named(case: Case) -> None:
    """Cut behind the first checkpoint that covers all: without the witness all is well."""
    before, control = case.names[0], case.names[3]
    assert "control" in control
    whole = {name: [*payloads] for name, payloads in case.payloads.items()}
    first_checkpoint = next(
        index for index, payload in enumerate(whole[control]) if b'"kind":"checkpoint"' in payload
    )
    signed = decode_record(whole[control][first_checkpoint])
    assert isinstance(signed, Checkpoint)
    case.drop(control, first_checkpoint + 1)
    for name in case.names:
        if name not in signed.segments:
            (case.folder / f"{name}.seg").unlink()
            (case.folder / f"{name}.personal").unlink()
            del case.payloads[name]
        elif name != control:
            case.drop(name, signed.segments[name][0])
    case.names = sorted(case.payloads)
    case.write()
    assert case.verify(witness=False).problems == []
    report = case.verify()
    assert (report.integrity, report.completeness) == ("ok", "broken")
    assert (control, first_checkpoint + 2, "truncated") in named(report)
    assert any(what == "segment missing" for _, _, what in named(report))
    assert before not in {stem for stem, _, _ in named(report)}


def test_the_last_checkpoint_alone_cut_off_is_named(case: Case) -> None:
    control = case.names[3]
    case.drop(control, len(case.payloads[control]) - 1)
    case.write()
    report = case.verify()
    assert report.completeness == "broken"
    assert (control, len(case.payloads[control]) + 1, "truncated") in named(report)


def test_a_lost_end_that_was_written_over_is_named(case: Case) -> None:
    """Records cut off, others put in their place and signed: as many checkpoints as before."""
    worker = case.names[1]
    case.payloads[worker][3:] = [
        b'{"seq":%d,"kind":"sealed","time":1764000001.0}' % 4,
    ]
    case.forge()
    report = case.verify()
    assert report.integrity == "broken"
    assert any(stem == worker and what in ("rewritten", "truncated") for stem, _, what in named(report))


def test_torn_lines_of_the_witness_are_passed_by(case: Case) -> None:
    content = case.witness.read_bytes()
    lines = content.splitlines(keepends=True)
    case.witness.write_bytes(lines[0][:50] + b"\n" + b"not JSON\n" + b"".join(lines) + lines[-1][:70])
    report = case.verify()
    assert (report.problems, report.witnessed) == ([], 7)


def test_lines_may_come_in_any_order_and_twice(case: Case) -> None:
    lines = case.witness.read_bytes().splitlines(keepends=True)
    case.witness.write_bytes(b"".join(lines[::-1] + lines[:3]))
    report = case.verify()
    assert (report.problems, report.witnessed) == ([], 10)


def test_a_line_that_another_key_signed_blames_nobody(case: Case) -> None:
    other = Ed25519PrivateKey.from_private_bytes(bytes(range(7, 39)))
    forged = [sign(other, 2, 1, None, {}), sign(other, 99, 1, None, {case.names[1]: (5, "0" * 64)})]
    content = case.witness.read_bytes()
    case.witness.write_bytes(content + b"".join(line_of(checkpoint) + b"\n" for checkpoint in forged))
    report = case.verify()
    assert (report.integrity, report.completeness) == ("ok", "unproven")
    assert named(report) == {("witness", 8, "witness bad"), ("witness", 9, "witness bad")}
    assert report.witnessed == 7


def test_a_line_with_a_spoilt_signature_blames_nobody(case: Case) -> None:
    content = case.witness.read_bytes()
    lines = content.splitlines(keepends=True)
    spoilt = lines[3].replace(b"number 4", b"number 8")
    case.witness.write_bytes(content + spoilt)
    assert named(case.verify()) == {("witness", 8, "witness bad")}


def test_a_line_says_what_its_checkpoint_says(made: tuple[Path, bytes]) -> None:
    for line in made[1].splitlines():
        checkpoint = read_line(line)
        assert checkpoint is not None
        assert line_of(checkpoint) == line
        assert checkpoint.key_id == key_id(PUBLIC_KEY)


@given(st.text(max_size=40), st.integers(0, 400))
def test_only_the_plain_form_of_a_statement_is_read(noise: str, at: int) -> None:
    text = statement_of(sign(SIGNING_KEY, 3, 1764000000000, "a" * 64, {"x": (3, "b" * 64)})).decode()
    damaged = text[:at] + noise + text[at:]
    if damaged == text:
        assert read_statement(text, "00").number == 3
        return
    try:
        read = read_statement(damaged, "00")
    except ValueError:
        return
    assert statement_of(read).decode() == damaged
