"""Audit actions: one grammar, and every verb of the command line that changes something has one."""

from __future__ import annotations

import re

from valetkey.journal.actions import AuditAction

CHANGING_VERBS = """
    service add change lock unlock remove credential | secret set retire | network add | party add |
    partner add | key issue derive change suspend resume unpin revoke | audit erase | home init
"""


def test_every_action_is_a_subject_and_a_verb() -> None:
    for action in AuditAction:
        assert re.fullmatch(r"[a-z]+:[a-z]+", action)
        assert action.name == f"{action.subject}_{action.verb}".upper()


def test_every_verb_that_changes_something_has_an_action() -> None:
    for line in CHANGING_VERBS.replace("\n", " ").split("|"):
        subject, *verbs = line.split()
        for verb in verbs:
            assert AuditAction(f"{subject}:{verb}").verb == verb
