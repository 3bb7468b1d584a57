"""May they? One question, asked by the frame of every operation before anything is touched."""

from __future__ import annotations

from valetkey.access.actor import Actor, ActorKind
from valetkey.errors import NotPermitted
from valetkey.journal.actions import AuditAction

# Only the one at the machine makes tokens: a leaked token must not be able to breed others.
# What the root key lies in is a matter of the machine.
_LOCAL_ONLY = frozenset({AuditAction.TOKEN_ISSUE, AuditAction.TOKEN_REVOKE, AuditAction.VAULT_REWRAP})


# What Valetkey notices by itself; nobody can ask for it.
_SYSTEM_ONLY = frozenset({AuditAction.KEY_EXPOSE, AuditAction.KEY_ABANDON})


def require_permission(actor: Actor, action: AuditAction) -> None:
    """Raise `NotPermitted` unless this actor may do this."""
    if actor.kind is not ActorKind.SYSTEM and action in _SYSTEM_ONLY:
        raise NotPermitted("That is noted by the server alone.", "Look at the key: valetkey key show ID")
    if actor.kind is ActorKind.KEY and action is not AuditAction.KEY_DERIVE:
        raise NotPermitted("A key manages nothing.", "Ask whoever gave it out.")
    if actor.kind is ActorKind.TOKEN and action in _LOCAL_ONLY:
        raise NotPermitted(
            "An API token cannot make or revoke tokens."
            if action is not AuditAction.VAULT_REWRAP
            else "An API token cannot change the root key.",
            "Do it on the machine itself, as the owner of the data folder.",
        )
