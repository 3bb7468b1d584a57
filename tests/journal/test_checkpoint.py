"""Checkpoints: what they sign, when they are made, what they prove and what they leave unproven."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from journal_world import PUBLIC_KEY, SIGNING_KEY, World
from proven_journal import Proven, named, rechained

from valetkey.journal.chain import personal_path, segment_path
from valetkey.journal.checkpoint import Checkpointer, digest, last_checkpoint, sign, signed_by
from valetkey.journal.records import Audit
from valetkey.journal.verify import verify_journal


def test_checkpoints_of_another_key_prove_nothing(tmp_path: Path) -> None:
    proven = Proven(tmp_path)
    report = verify_journal(proven.folder, [Ed25519PrivateKey.generate().public_key()], proven.heads)
    assert report.integrity == "broken"
    assert {what for _, _, what in named(report)} == {"checkpoint signature bad", "unproven"}


def test_records_behind_the_last_checkpoint_are_unproven(tmp_path: Path) -> None:
    world = World(tmp_path)
    control, worker = world.writer("control"), world.writer("w0")
    tailer, checkpoints = world.tailer(), world.checkpointer(control)
    world.call(worker)
    tailer.poll()
    checkpoints.make(tailer.heads(), 1, 0)
    upto = tailer.heads() | {control.name: (control.count, control.head)}
    assert verify_journal(world.folder, [PUBLIC_KEY], {}).completeness == "ok"
    world.call(worker)
    report = verify_journal(world.folder, [PUBLIC_KEY], {})
    assert (report.integrity, report.completeness) == ("ok", "unproven")
    assert named(report) == {(worker.name, 4, "unproven")}
    world.writer("w1")
    live = verify_journal(world.folder, [PUBLIC_KEY], {}, upto=upto)
    assert (live.integrity, live.completeness, live.records) == ("ok", "ok", 5)


def test_an_unfinished_record_or_personal_line_is_unproven_not_broken(tmp_path: Path) -> None:
    world = World(tmp_path)
    control, worker = world.writer("control"), world.writer("w0")
    tailer = world.tailer()
    world.call(worker)
    tailer.poll()
    world.checkpointer(control).make(tailer.heads(), 1, 0)
    for path in (segment_path(world.folder, worker.name), personal_path(world.folder, worker.name)):
        content = path.read_bytes()
        path.write_bytes(content + b"4 00ff")
        report = verify_journal(world.folder, [PUBLIC_KEY], {})
        assert (report.integrity, report.completeness) == ("ok", "unproven")
        path.write_bytes(content)


def test_without_any_checkpoint_nothing_is_proven(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.call(world.writer())
    report = verify_journal(world.folder, [PUBLIC_KEY], {})
    assert (report.integrity, report.completeness) == ("unproven", "unproven")
    assert verify_journal(tmp_path / "none", [PUBLIC_KEY], {}).completeness == "unproven"
    assert verify_journal(tmp_path / "none", [], {"a": (1, "00")}).completeness == "broken"


def test_a_control_process_that_starts_again_goes_on_with_the_checkpoints(tmp_path: Path) -> None:
    world = World(tmp_path)
    tailer = world.tailer()
    first = world.writer("control")
    worker = world.writer("w0")
    checkpoints = world.checkpointer(first)
    for _ in range(3):
        world.call(worker)
        tailer.poll()
        checkpoints.make(tailer.heads(), 1, 0)
    first.seal(world.tick())
    first.close()
    second = world.writer("control")
    last = last_checkpoint(world.folder)
    assert last is not None
    assert last.number == 3
    checkpoints = Checkpointer(SIGNING_KEY, second, last, 0)
    tailer.poll()
    made = checkpoints.make(tailer.heads(), 1, 0)
    assert made is not None
    assert set(made.segments) == {first.name, worker.name, second.name}
    assert (made.number, made.previous) == (4, digest(last))
    report = verify_journal(world.folder, [PUBLIC_KEY], {})
    assert (report.integrity, report.completeness, report.problems) == ("ok", "ok", [])
    # Records of the first control segment that only the second one's checkpoint signs:
    path = segment_path(world.folder, first.name)
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    lines[-1] = lines[-1].replace(b"17640", b"17650")
    path.write_bytes(rechained(first.name, lines))
    assert (first.name, len(lines), "changed") in named(verify_journal(world.folder, [PUBLIC_KEY], {}))
    # Without the first segment the chain of checkpoints has a hole.
    path.unlink()
    whats = {what for _, _, what in named(verify_journal(world.folder, [PUBLIC_KEY], {}))}
    assert whats >= {"segment missing", "checkpoint missing"}


def test_checkpoints_are_made_each_second_or_thousand_records_and_only_when_something_changed(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    control = world.writer("control")
    checkpoints = Checkpointer(SIGNING_KEY, control, None, 0)
    second = 1_000_000_000
    heads: dict[str, tuple[int, str]] = {"x": (1, "00")}
    assert not checkpoints.due(heads, second - 1)
    assert checkpoints.due(heads, second)
    assert checkpoints.due({"x": (999, "00")}, 5)  # 999 and the control segment's own first record
    assert checkpoints.make(heads, 1, second) is not None
    assert not checkpoints.due(heads, 9 * second)
    assert checkpoints.make(heads, 1, 9 * second) is None
    assert checkpoints.due({"x": (2, "01")}, 9 * second)
    control.append(Audit(1.0, "key:issue", "owner"))
    made = checkpoints.make(heads, 1, 9 * second)
    assert made is not None
    assert set(made.segments) == {control.name}


def test_a_signature_is_bound_to_everything_in_the_checkpoint() -> None:
    made = sign(SIGNING_KEY, 3, 4, "ab", {"x": (1, "00"), "a": (2, "01")})
    assert signed_by(made, PUBLIC_KEY)
    for other in (
        sign(SIGNING_KEY, 4, 4, "ab", made.segments),
        sign(SIGNING_KEY, 3, 5, "ab", made.segments),
        sign(SIGNING_KEY, 3, 4, "ac", made.segments),
        sign(SIGNING_KEY, 3, 4, None, made.segments),
        sign(SIGNING_KEY, 3, 4, "ab", {"x": (1, "00")}),
        sign(SIGNING_KEY, 3, 4, "ab", {"x": (1, "00"), "a": (3, "01")}),
    ):
        assert other.signature != made.signature
