"""Every management action that leaves an audit record, as one enumeration with one grammar.

The grammar is ``subject:verb``: the subject is a word of the design's list, the verb is what was done to it.
Actions are only ever added, never renamed: audit records keep them for ever.
"""

from __future__ import annotations

from enum import StrEnum


class AuditAction(StrEnum):
    """What was done. The value stands in the journal."""

    HOME_INIT = "home:init"
    SERVER_START = "server:start"
    SERVER_STOP = "server:stop"
    WORKER_FENCE = "worker:fence"
    CLOCK_ACCEPT = "clock:accept"
    SETTING_CHANGE = "setting:change"
    VAULT_REWRAP = "vault:rewrap"

    SERVICE_ADD = "service:add"
    SERVICE_CHANGE = "service:change"
    SERVICE_LOCK = "service:lock"
    SERVICE_UNLOCK = "service:unlock"
    SERVICE_REMOVE = "service:remove"
    SERVICE_CREDENTIAL = "service:credential"
    CREDENTIAL_REVOKE = "credential:revoke"

    SECRET_SET = "secret:set"  # noqa: S105 - an action, not a secret
    SECRET_RETIRE = "secret:retire"  # noqa: S105

    NETWORK_ADD = "network:add"
    NETWORK_FOLLOW = "network:follow"
    NETWORK_REMOVE = "network:remove"

    LIMIT_CHANGE = "limit:change"

    PARTY_ADD = "party:add"
    PARTNER_ADD = "partner:add"
    PARTNER_CHANGE = "partner:change"
    PARTNER_END = "partner:end"

    KEY_ISSUE = "key:issue"
    KEY_DERIVE = "key:derive"
    KEY_CHANGE = "key:change"
    KEY_SUSPEND = "key:suspend"
    KEY_RESUME = "key:resume"
    KEY_PIN = "key:pin"
    KEY_UNPIN = "key:unpin"
    KEY_REVOKE = "key:revoke"
    KEY_SHOW = "key:show"
    KEY_EXPOSE = "key:expose"
    KEY_ABANDON = "key:abandon"

    TOKEN_ISSUE = "token:issue"  # noqa: S105
    TOKEN_REVOKE = "token:revoke"  # noqa: S105

    SESSION_START = "session:start"
    SESSION_END = "session:end"

    AUDIT_ERASE = "audit:erase"

    @property
    def subject(self) -> str:
        return self.value.partition(":")[0]

    @property
    def verb(self) -> str:
        return self.value.partition(":")[2]
