"""Proves a journal: walks every segment, checks every signed checkpoint, compares with the heads that the
store keeps, and gives two verdicts.

Integrity: is what stands there what was written? Completeness: is all there that was written?
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from valetkey.journal.admission import Admission, in_order, says_nothing
from valetkey.journal.chain import (
    PERSONAL_SUFFIX,
    SEGMENT_SUFFIX,
    SegmentName,
    kind_of,
    segment_path,
)
from valetkey.journal.checkpoint import digest, signed_by
from valetkey.journal.evidence import Evidence
from valetkey.journal.notes import covered_lines, started_in, uncovered
from valetkey.journal.records import UNREADABLE, Checkpoint, Segment, decode_record
from valetkey.journal.verdict import VERDICTS, Report, Verdict, What
from valetkey.journal.walk import Walker
from valetkey.journal.witness import WitnessFile
from valetkey.journal.witnessed import AgainstWitness


class Verification(Evidence):
    """One proof on its way."""

    def __init__(
        self,
        folder: Path,
        public_keys: Iterable[Ed25519PublicKey],
        stored: Mapping[str, tuple[int, str]],
        witness: WitnessFile | None,
    ) -> None:
        super().__init__(folder, public_keys)
        self.stored = stored
        self.covered: dict[str, int] = {}
        self.checkpoints = 0
        self.last: Checkpoint | None = None
        self.against = AgainstWitness(self, witness) if witness is not None else None

    def open(self, upto: Mapping[str, tuple[int, str]] | None) -> None:
        names = self.names
        beside: set[str] = set()
        for entry in sorted(os.listdir(self.folder)) if self.folder.is_dir() else []:
            stem, suffix = os.path.splitext(entry)
            try:
                name = SegmentName.parse(stem)
            except ValueError:
                suffix = ""
            if suffix == SEGMENT_SUFFIX:
                names[stem] = name
            elif suffix == PERSONAL_SUFFIX:
                beside.add(stem)
            else:
                self.report(entry, None, What.STRANGER, "The file does not belong to the journal.")
        for stem, name in sorted(names.items()):
            if upto is not None and stem not in upto:
                continue
            self.walkers[stem] = Walker(
                self.folder, name, partial(self.report, stem), None if upto is None else upto[stem][0]
            )
        for stem in sorted(beside - set(names)):
            self.lost(stem, "its file of personal fields")
        for stem, (count, head) in self.stored.items():
            if stem not in names:
                self.lost(stem, "the store")
            elif stem in self.walkers and count > 0 and (upto is None or count <= upto[stem][0]):
                self.walkers[stem].expect(count, head, "the store")
        if self.against is not None:
            self.against.open(upto)

    def walk(self) -> None:
        controls = [self.names[stem] for stem in self.walkers if self.names[stem].control]
        for stem in map(str, in_order(self.folder, controls, self.keys)):
            walker = self.walkers[stem]
            recent = self.recent[stem] = {}
            if self.silent(stem):
                continue
            while (payload := walker.step()) is not None:
                recent[walker.count] = walker.link
                if kind_of(payload) == b"checkpoint":
                    self.checkpoint(walker, payload)
        for stem, walker in self.walkers.items():
            if stem in self.covered or not self.silent(stem):
                walker.finish()
        for walker in self.walkers.values():
            self._previous(walker)
        if self.against is not None:
            self.against.finish()
        strangers = self._strangers()
        for stem, walker in self.walkers.items():
            behind = walker.count - self.covered.get(stem, 0)
            if behind > 0 and stem not in strangers:
                self.report(
                    stem,
                    self.covered.get(stem, 0) + 1,
                    What.UNPROVEN,
                    f"{behind} records stand behind the last checkpoint.",
                )

    def silent(self, stem: str) -> bool:
        """Whether a segment says nothing, and nothing outside says that it should."""
        return stem not in self.stored and says_nothing(self.folder, self.names[stem])

    def _strangers(self) -> set[str]:
        """Report segments that no checkpoint signs and no announcement names."""
        unsigned = [
            name for stem, name in self.names.items() if stem not in self.covered and not self.silent(stem)
        ]
        if not unsigned:
            return set()
        admission = Admission()
        proven = self.checkpoints > 0
        for stem in self.covered:
            admission.know(self.names[stem])
        for name in self.names.values():
            if name.control:
                for started in started_in(segment_path(self.folder, name), self.keys):
                    admission.announce(started)
                    proven = True
        if not proven:  # without one good signature nobody can tell whose the segments are
            return set()
        strangers = {str(name) for name in sorted(unsigned) if not admission(name)}
        for stem in sorted(strangers):
            self.report(stem, None, What.STRANGER, "No signed record announces the segment.")
        return strangers

    def erasures(self) -> int:
        """Report blank personal lines that no signed erasure covers; return how many are covered."""
        blank = {
            stem: sorted([*walker.blank, *walker.half_blank]) if walker.half_blank else walker.blank
            for stem, walker in self.walkers.items()
            if walker.blank or walker.half_blank
        }
        # Read after the walk: an erasure that goes on meanwhile is noted before it blanks.
        covered = covered_lines(self.folder, self.keys) if blank else {}
        erased = 0
        for stem, numbers in blank.items():
            erased += len(numbers)
            half = set(self.walkers[stem].half_blank)
            for seq in uncovered(numbers, covered.get(stem, [])):
                erased -= 1
                half.discard(seq)
                detail = "The fields beside the record are blank, but no signed erasure covers them."
                self.report(stem, seq, What.PERSONAL_REMOVED, detail)
            for seq in sorted(half):
                erased -= 1
                detail = (
                    "The fields beside the record are erased in part: the next start of the server goes on."
                )
                self.report(stem, seq, What.UNPROVEN, detail)
        return erased

    def checkpoint(self, walker: Walker, payload: bytes) -> None:
        seq = walker.count
        try:
            record = decode_record(payload)
        except UNREADABLE:
            record = None
        if not isinstance(record, Checkpoint):
            self.report(walker.name, seq, What.CHANGED, "The checkpoint cannot be read.")
            return
        key = self.keys.get(record.key_id)
        if key is None or not signed_by(record, key):
            detail = (
                "The key that signed is not known."
                if key is None
                else "The signature is not that of the key."
            )
            self.report(walker.name, seq, What.SIGNATURE_BAD, detail)
            return
        self.checkpoints += 1
        last = self.last
        if (record.number, record.previous) != (
            (1, None) if last is None else (last.number + 1, digest(last))
        ):
            self.report(
                walker.name, seq, What.CHECKPOINT_MISSING, "The checkpoint before this one is not there."
            )
        self.last = record
        if self.against is not None:
            self.against.compare(walker, record)
        for stem, (count, head) in record.segments.items():
            self._compare(walker, record.number, stem, count, head)
        # The signature proves the checkpoint's own record, and its segment up to there.
        if record.segments.get(walker.name, (None,))[0] == seq - 1:
            self.covered[walker.name] = seq

    def _compare(self, control: Walker, number: int, stem: str, count: int, head: str) -> None:
        source = f"checkpoint {number}"
        walker = self.walkers.get(stem)
        if walker is None:
            self.lost(stem, source)
            return
        already = self.covered.get(stem, 0)
        self.covered[stem] = max(count, already)
        if walker is control:
            if walker.count - 1 != count or walker.link_before.hex() != head:
                self.report(stem, count, What.CHANGED, f"The head at this record is not that of {source}.")
            self.recent[stem].clear()
            return
        link = walker.advance(count) or self.recent.get(stem, {}).get(count)
        if walker.count < count:
            self.report(
                stem,
                walker.count + 1,
                What.TRUNCATED,
                f"The segment ends at record {walker.count}, but {source} signs {count} records.",
            )
        elif link is not None and link.hex() != head:
            self.report(
                stem,
                count,
                What.CHANGED,
                f"Records {already + 1} to {count} are not those that {source} signs.",
            )

    def _previous(self, walker: Walker) -> None:
        """The segment that a segment names as its previous one must be there, as long as it was."""
        try:
            record = decode_record(walker.first)
        except UNREADABLE:
            return
        if not isinstance(record, Segment) or record.previous is None:
            return
        if record.previous not in self.names:
            self.lost(record.previous, f"segment {walker.name}")
            return
        before = self.walkers.get(record.previous)
        if before is not None and record.previous_count is not None and before.count < record.previous_count:
            self.report(
                record.previous,
                before.count + 1,
                What.TRUNCATED,
                f"The segment ends at record {before.count}, but the next one names {record.previous_count}.",
            )

    def verdicts(self) -> tuple[Verdict, Verdict]:
        def worst(index: int, start: Verdict) -> Verdict:
            found = {VERDICTS[what][index] for what in self.seen} | {start}
            return "broken" if "broken" in found else "unproven" if "unproven" in found else "ok"

        start: Verdict = "ok" if self.checkpoints else "unproven"
        return worst(0, start), worst(1, start)


def verify_journal(
    folder: Path,
    public_keys: Iterable[Ed25519PublicKey],
    stored_heads: Mapping[str, tuple[int, str]],
    *,
    upto: Mapping[str, tuple[int, str]] | None = None,
    witness: WitnessFile | None = None,
) -> Report:
    """Prove the journal in `folder`.

    `public_keys`: the keys whose checkpoints count. `stored_heads`: segment -> count and head as the store
    keeps them. `upto`: on a home that is being written, the heads right after a checkpoint was made: later
    records and announced segments are left alone. `witness`: what someone outside holds, read before the call.
    Without a checkpoint of a known key nothing is proven.
    """
    verification = Verification(folder, public_keys, stored_heads, witness)
    verification.open(upto)
    verification.walk()
    erased = verification.erasures()
    integrity, completeness = verification.verdicts()
    walkers = verification.walkers.values()
    return Report(
        integrity,
        completeness,
        sum(walker.records for walker in walkers),
        len(walkers),
        verification.checkpoints,
        erased,
        verification.problems,
        verification.more,
        verification.against.agreed if verification.against is not None else 0,
    )
