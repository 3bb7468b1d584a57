"""One example of every answer, for the API's description. Real objects, so that they cannot go stale."""

from __future__ import annotations

from typing import Any

import msgspec

from valetkey.agreements.agreement import AgreedService, Agreement, AgreementState, sentences, understand
from valetkey.agreements.queries import PartnerView
from valetkey.api import answers
from valetkey.decision.limits import Limits, parse_budget, parse_rate
from valetkey.decision.policy import Policy
from valetkey.decision.restrictions import Endpoints
from valetkey.doctor.findings import Kind, found, report
from valetkey.journal.event import Event, Page
from valetkey.journal.proof import FORMAT, Proof, RecordProof
from valetkey.keys.checking import CheckedKey
from valetkey.keys.credentials import Credential, CredentialView
from valetkey.keys.making import IssuedKey
from valetkey.keys.queries import KeyPage, KeyView
from valetkey.keys.tokens import IssuedToken, TokenView
from valetkey.limits.operations import LimitsView, Shared
from valetkey.networks.operations import Network
from valetkey.parties.operations import Party, PartyKind
from valetkey.services.queries import ServiceView
from valetkey.vault.operations import SecretView, VersionView

_TIME = 1_790_000_000.0
_KEY = "key_aaaaaaaaaaaaaaaa"
_SHOWN = "vk_… (shown this once)"

_SERVICE = ServiceView(
    id="svc_aaaaaaaaaaaaaaaa",
    name="openai",
    title="OpenAI",
    kind="upstream",
    preset="openai",
    hosts={"api": "https://api.openai.com"},
    auth="bearer",
    price="0.000000",
    locked=False,
    created=_TIME,
    max_body=536_870_912,
)
_SECRET = SecretView("openai", "default", "production", "medium", 2, _TIME, None)
_POLICY = Policy((Endpoints(("GET /v1/models",)),), Limits(rate=parse_rate("5/s", None)))
_ISSUED = IssuedKey(
    id=_KEY,
    key=_SHOWN,
    kind="private",
    service="openai",
    holder="ci-runner",
    environment="production",
    label="",
    last4="7Qx1",
    expires=None,
    sentences=_POLICY.sentences(),
)
_VIEW = KeyView(
    id=_KEY,
    kind="private",
    service="openai",
    holder="ci-runner",
    environment="production",
    label="",
    state="active",
    last4="7Qx1",
    created=_TIME,
    expires=None,
    review=None,
    ended=None,
    secret="default",  # noqa: S106 - a name
    parent=None,
    policy=_POLICY,
    sentences=_POLICY.sentences(),
)
_EVENT = Event(
    call="01J00000000000000000000000",
    key_id=_KEY,
    code="VALID",
    time=_TIME,
    method="GET",
    path="/v1/models",
    endpoint="GET /v1/models",
    address="203.0.113.7",
    user_agent="curl/8.5",
    origin=None,
    service="openai",
    holder="ci-runner",
    workspace="default",
    environment="production",
    status=200,
    end="complete",
    bytes_in=0,
    bytes_out=5120,
    first_byte_ms=210.5,
    last_byte_ms=212.0,
    cost=0,
    count=1,
)
_USE = answers.UsageItem(
    _KEY, "", "ci-runner", "openai", 12, 11, 1, 0, 61_440, 0, [0, 12], {"ENDPOINT_DENIED": 1}
)
_TOKEN = TokenView("tok_aaaaaaaaaaaaaaaa", "ci-runner", "deployment", "a1B2", _TIME, None)
_AGREEMENT = Agreement("2027-12-31", (AgreedService("weather", ("GET /v1/**",)),), title="Weather for Acme")
_PARTNER = PartnerView(
    "agr_aaaaaaaaaaaaaaaa",
    "acme",
    _AGREEMENT,
    None,
    _TIME,
    None,
    AgreementState.ACTIVE,
    sentences(_AGREEMENT, understand(_AGREEMENT, _TIME)),
)
_SHARED = Limits(budgets=(parse_budget("20.00/month"),))
_LIMITS = LimitsView(Shared.HOLDER, "ana", _SHARED, _SHARED.sentences())
_NETWORK = Network("net_aaaaaaaaaaaaaaaa", "office", ("203.0.113.0/24",))
_PARTY = Party("pty_aaaaaaaaaaaaaaaa", "ci-runner", PartyKind.APPLICATION)

_PROOF = Proof(
    FORMAT,
    "ab" * 32,
    (
        RecordProof(
            "01790000000000000000-control-1",
            '{"seq":3,"kind":"audit",…}',
            "12" * 32,
            ("34" * 32,),
            "valetkey-checkpoint-1\nnumber 1\n…",
            "56" * 64,
        ),
    ),
)

_OBJECTS: tuple[Any, ...] = (
    _SERVICE,
    answers.ServicePage([_SERVICE]),
    Credential("crd_aaaaaaaaaaaaaaaa", "weather", _SHOWN),
    answers.CredentialPage([CredentialView("crd_aaaaaaaaaaaaaaaa", "weather", "a1B2", _TIME, None)]),
    answers.CredentialStopped("crd_aaaaaaaaaaaaaaaa", "weather", _TIME, 1, 0),
    _SECRET,
    answers.SecretPage([_SECRET]),
    answers.VersionPage([VersionView("ver_aaaaaaaaaaaaaaaa", 2, _TIME, None, None, "in use")]),
    _NETWORK,
    answers.NetworkPage([_NETWORK]),
    _PARTNER,
    answers.PartnerPage([_PARTNER]),
    answers.PartnerChanged(_PARTNER, 1, 0, 2),
    _LIMITS,
    answers.LimitsPage([_LIMITS]),
    answers.ClockAccepted(_TIME, 1, 0),
    answers.VaultRewrapped(
        "3f1c9a0b7d2e4f58",
        "a71e22c09b5d6f14",
        "/etc/valetkey/root.key",
        "/etc/valetkey/root.key.former-a71e22c09b5d6f14",
    ),
    _PARTY,
    answers.PartyPage([_PARTY]),
    _ISSUED,
    _VIEW,
    KeyPage([_VIEW], None),
    answers.KeyStopped(_KEY, "revoked", 1, 0, 2),
    CheckedKey("VALID", "The call is allowed.", "Nothing to do.", "GET /v1/models", None, None, _KEY),
    Page([_EVENT], None),
    answers.UsagePage([_USE], None, _TIME),
    answers.AuditPage(
        [
            answers.AuditItem(
                "aud_aaaaaaaaaaaaaaaa", _TIME, "local-owner:ana", "key:issue", f"key:{_KEY}", "done"
            )
        ],
        None,
    ),
    answers.JournalVerdict("ok", "ok", 4, 1, 1, 0, []),
    _PROOF,
    answers.FieldsErased("era_aaaaaaaaaaaaaaaa", "ana", None, 12),
    _TOKEN,
    answers.TokenPage([_TOKEN]),
    IssuedToken("tok_aaaaaaaaaaaaaaaa", "ci-runner", _SHOWN),
    answers.Status(
        "0.1.0",
        "/var/lib/valetkey",
        True,
        [],
        [answers.WorkerStatus(0, 4242, 1, True)],
        8300,
        8200,
    ),
    answers.Health("ok"),
    report(
        [
            found(
                Kind.SECRET_OLD,
                "1 real key is more than 365 days old.",
                "valetkey secret set openai",
                ["openai"],
            )
        ],
        running=True,
    ),
)

ANSWERS: dict[Any, Any] = {type(made): msgspec.to_builtins(made) for made in _OBJECTS}
"""Type of the answer -> its example."""
