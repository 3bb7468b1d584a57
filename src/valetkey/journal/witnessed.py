"""Compares the signed checkpoints of a journal with those that a witness outside holds: part of its proof."""

from __future__ import annotations

from collections.abc import Mapping

from valetkey.journal.chain import CONTROL
from valetkey.journal.checkpoint import last_checkpoint, signed_by, statement_of
from valetkey.journal.evidence import Evidence
from valetkey.journal.records import Checkpoint
from valetkey.journal.verdict import What
from valetkey.journal.walk import Walker
from valetkey.journal.witness import WitnessFile


class AgainstWitness:
    """Compares the checkpoints of the journal with those that a witness holds."""

    def __init__(self, evidence: Evidence, witness: WitnessFile) -> None:
        self.agreed = 0
        self._evidence = evidence
        self._witness = witness
        self._same: dict[str, int] = {}
        """Segment -> records that are the witness's too: its newest checkpoint that agrees names them, or one before
        it, which it holds by the digest."""
        self._since: dict[str, int] = {}
        """Segment -> records signed since then."""
        self._differs = False
        self._missing: Checkpoint | None = None

    def open(self, upto: Mapping[str, tuple[int, str]] | None) -> None:
        """Expect what the witness saw behind the journal's last checkpoint."""
        evidence, witness = self._evidence, self._witness
        keys = evidence.keys.values() if evidence.names else ()
        known = [last_checkpoint(evidence.folder, key) for key in keys]
        last = max((found.number for found in known if found is not None), default=0)
        heads: dict[str, tuple[int, str]] = {}
        for place, seen in witness.between(last + 1, witness.newest):
            if self._good(place, seen):
                heads |= seen.segments
                self._missing = seen
        for stem, (count, head) in heads.items():
            if stem not in evidence.names:
                evidence.lost(stem, "the witness")
            elif stem in evidence.walkers and count > 0 and (upto is None or count <= upto[stem][0]):
                evidence.walkers[stem].expect(count, head, "the witness's newest checkpoint")

    def compare(self, control: Walker, record: Checkpoint) -> None:
        """Compare a checkpoint whose signature is good with those of its number that the witness holds."""
        self._since |= {stem: count for stem, (count, _) in record.segments.items()}
        for place, seen in self._witness.between(record.number, record.number):
            if statement_of(seen) == statement_of(record):
                self.agreed += 1
                self._same |= self._since
                self._since.clear()
            elif self._good(place, seen) and not self._differs:
                self._differs = (
                    True  # all later ones differ as well: each holds the digest of the one before it
                )
                self._name(control, seen)

    def _name(self, control: Walker, seen: Checkpoint) -> None:
        evidence, source = self._evidence, f"the witness's checkpoint {seen.number}"
        detail = f"This is not the checkpoint {seen.number} that the witness holds."
        evidence.report(control.name, control.count, What.REWRITTEN, detail)
        for stem, (count, head) in sorted(seen.segments.items()):
            first = self._same.get(stem, 0) + 1
            walker = evidence.walkers.get(stem)
            if stem not in evidence.names:
                evidence.lost(stem, "the witness")
            if walker is None or count < first:
                continue
            if count > walker.count:
                walker.expect(count, head, source, first)
                continue
            link = walker.link if walker.count == count else evidence.recent.get(stem, {}).get(count)
            if link is not None and link.hex() != head:
                detail = f"Records {first} to {count} are not those that {source} signs."
                evidence.report(stem, first, What.REWRITTEN, detail)

    def finish(self) -> None:
        """Report the newest checkpoint that only the witness has."""
        evidence, seen = self._evidence, self._missing
        if seen is None:
            return
        stem = max((stem for stem in seen.segments if f"-{CONTROL}-" in stem), default="")
        count = seen.segments[stem][0] if stem else 0
        walker = evidence.walkers.get(stem)
        if stem in evidence.missing or (walker is not None and walker.count < count):
            return  # said already
        detail = f"The witness holds checkpoint {seen.number}, and the journal does not reach to it."
        evidence.report(stem, count + 1, What.TRUNCATED, detail)

    def _good(self, place: int, seen: Checkpoint) -> bool:
        key = self._evidence.keys.get(seen.key_id)
        if key is not None and signed_by(seen, key):
            return True
        detail = "The signature of the witness's line is not that of a key of this journal."
        self._evidence.report("witness", place, What.WITNESS_BAD, detail)
        return False
