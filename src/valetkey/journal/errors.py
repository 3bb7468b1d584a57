"""What can go wrong in the journal. Every error says what happened and what to do now."""

from __future__ import annotations


class JournalError(Exception):
    """Base of all errors of the journal."""


class JournalFailed(JournalError):
    """A record could not be written. The writer refuses from now on; the last whole record is the end."""


class SegmentLive(JournalError):
    """The segment is still held by its writer, so it cannot be recovered."""


class BadCursor(JournalError, ValueError):
    """A cursor that this journal did not give out, or whose segment is gone."""
