"""A fixed story of one home, from its making to its end, that can be gone on with from wherever it was cut off.

What was acknowledged in lives before is `known`; each life begins with a look whether all of it is there and nothing is
half done, and goes on with the first step that was not acknowledged.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from sqlalchemy import Table, func, select

from one_process import OneProcess
from valetkey.decision.counter_layout import USES
from valetkey.errors import Conflict
from valetkey.gateway.facts import SecretFact
from valetkey.journal.actions import AuditAction
from valetkey.keys.drafting import Terms
from valetkey.keys.operations import ChangeKey, IssueKey, KeyName, change_key, issue_key, revoke_key
from valetkey.server import main
from valetkey.server.home import Home
from valetkey.server.offline import verify_home
from valetkey.services.operations import AddService, add_service
from valetkey.store import tables
from valetkey.vault.operations import SetSecret, set_secret

SERVICE = "weather"
SECRETS = ("first-real-key-" + "a1B2" * 6, "second-real-key-" + "c3D4" * 6)
Say = Callable[[dict[str, Any]], None]
MADE: dict[AuditAction, Table] = {
    AuditAction.HOME_INIT: tables.workspaces,
    AuditAction.SERVICE_ADD: tables.services,
    AuditAction.SECRET_SET: tables.secret_versions,
    AuditAction.KEY_ISSUE: tables.keys,
}
"""What each of these actions makes a row of: as many rows as entries, or something is half done."""


class Story:
    """One life: from a start of the server to its end, or to wherever this process is killed."""

    def __init__(self, home: Home, known: list[dict[str, Any]], say: Say, lives: int) -> None:
        """`known`: what was said in lives before; `lives`: how many there were."""
        self._home = home
        self._known = list(known)
        self._say = say
        self._lives = lives

    def said(self, step: str) -> dict[str, Any] | None:
        """What was acknowledged of a step."""
        return next((one for one in self._known if one["step"] == step), None)

    def acknowledge(self, step: str, **more: Any) -> None:
        said = {"step": step, **more}
        self._say(said)
        self._known.append(said)

    def go_on(self) -> None:
        """Start, look, go on to the end, look again."""
        if self.said("init") is not None:
            self._look_at_rest("unproven")
        else:
            main.init(self._home)
            self.acknowledge("init")
        if self.said("end") is None:
            self.server = OneProcess(self._home)
            self.look()
            for step in (
                self.service, self.first_secret, self.key, self.calls, self.checkpoint, self.death, self.more_calls,
                self.second_secret, self.rewrap, self.change, self.forget, self.revoke,
            ):  # fmt: skip
                step()
            self.look()
            self.server.close()
            self.acknowledge("end")
        self._look_at_rest()

    # -- the steps

    def service(self) -> None:
        if self.said("service") is None:
            try:
                self.server.perform(
                    add_service, AddService(SERVICE, base_url="https://api.example.com", auth="bearer")
                )
            except Conflict:
                pass  # it was made by a life that could not say so any more
            self.acknowledge("service")

    def first_secret(self) -> None:
        self._secret("secret 1", SECRETS[0])

    def second_secret(self) -> None:
        self._secret("secret 2", SECRETS[1])

    def _secret(self, step: str, value: str) -> None:
        if self.said(step) is None:
            self.server.perform(set_secret, SetSecret(SERVICE, value))
            self.acknowledge(step)

    def key(self) -> None:
        if self.said("key") is None:
            # A key whose value nobody was told is of no use: another one.
            request = IssueKey(
                SERVICE,
                label=f"life {self._lives}",
                terms=Terms(uses=50, rate="1000/s", burst=1000, endpoints=("GET /calls/**",)),
            )
            issued = self.server.perform(issue_key, request)
            self.acknowledge("key", id=issued.id, value=issued.key)

    def _call(self, path: str, code: str = "VALID") -> None:
        step = f"call {path}"
        if self.said(step) is None:
            status, answered = self.server.call(self._key["value"], f"/{SERVICE}{path}")
            assert answered == code, (path, status, answered)
            self.acknowledge(step, path=path, code=code)

    @property
    def _key(self) -> dict[str, Any]:
        key = self.said("key")
        assert key is not None
        return key

    def calls(self) -> None:
        self._call("/calls/1")
        self._call("/calls/2")
        self._call("/elsewhere", "ENDPOINT_DENIED")

    def checkpoint(self) -> None:
        if self.said("checkpoint") is None:
            self._prove()
            self.acknowledge("checkpoint")

    def death(self) -> None:
        """All processes are killed with a call open, and start again."""
        if self.said("death") is None:
            self.server.leave_open(self._key["value"], f"/{SERVICE}/calls/open")
            self.server.drop()
            self.server = OneProcess(self._home)
            self.acknowledge("death")

    def more_calls(self) -> None:
        self._call("/calls/3")
        self._call("/calls/4")

    def rewrap(self) -> None:
        if self.said("rewrap") is None:
            owner = self.server.desk.local_owner()
            self.server.run(self.server.desk.rewrap_vault(owner, None))
            self.acknowledge("rewrap")

    def change(self) -> None:
        if self.said("change") is None:
            self.server.perform(change_key, ChangeKey(self._key["id"], label="changed", terms=Terms(uses=60)))
            self.acknowledge("change")

    def forget(self) -> None:
        if self.said("forget") is None:
            self.server.run(self.server.recorder.erase(party=None, before=time.time() + 10))
            self.acknowledge("forget")

    def revoke(self) -> None:
        if self.said("revoke") is None:
            self.server.perform(revoke_key, KeyName(self._key["id"]))
            self.acknowledge("revoke")
        assert self.server.call(self._key["value"], f"/{SERVICE}/calls/late")[1] == "REVOKED"

    # -- what holds in every life

    def look(self) -> None:
        """All that was acknowledged is there, nothing is half done, and the record is proved."""
        assert len(self._home.id) == 16  # the root key's file may be named after it
        self.server.run(self.server.recorder.catch_up())
        self._look_at_rows()
        self._look_at_calls()
        self._look_at_audit()
        self._prove()
        assert list(self.server.recorder.problems) == []

    def _look_at_rest(self, *also: str) -> None:
        """What `audit verify` says while no server runs."""
        report = verify_home(self._home)
        assert report["integrity"] in ("ok", *also), report
        assert report["completeness"] in ("ok", *also), report
        assert also or report["problems"] == [], report

    def _prove(self) -> None:
        report = self.server.run(self.server.desk.verify_journal(self.server.desk.local_owner()))
        assert (report["integrity"], report["completeness"], report["problems"]) == ("ok", "ok", []), report

    def _look_at_rows(self) -> None:
        with self.server.opened.store.read() as connection:
            entries = Counter(connection.execute(select(tables.audit.c.action)).scalars())
            for action, table in MADE.items():
                rows = connection.execute(select(func.count()).select_from(table)).scalar()
                assert rows == entries[action], (action, rows, entries)
            ids = set(connection.execute(select(tables.keys.c.id)).scalars())
            facts = list(self.server.loader.all(connection))
        assert (self.said("service") is None) or entries[AuditAction.SERVICE_ADD] == 1
        values = {value for fact in facts for value in _secret_values(fact)}
        assert values >= {value for n, value in enumerate(SECRETS, 1) if self.said(f"secret {n}")}
        key = self.said("key")
        assert key is None or key["id"] in ids
        if key is not None:
            index = self.server.node.index
            entry = index.get(key["id"])
            assert entry is not None
            changed = entries[AuditAction.KEY_CHANGE]
            uses = index.compiled(entry).plan.levels[0].limits.uses
            assert uses == (60 if changed else 50)
            assert changed or self.said("change") is None
            revoked = entries[AuditAction.KEY_REVOKE]
            assert revoked or self.said("revoke") is None

    def _look_at_calls(self) -> None:
        page = self.server.run(self.server.desk.events(limit=200))
        assert page["next"] is None
        events = page["items"]
        # Nothing is open after a start.
        assert all(event["end"] is not None for event in events), events
        found = {(event["path"], event["code"], event["end"]) for event in events}
        for said in self._known:
            if "path" in said:
                end = "complete" if said["code"] == "VALID" else "refused"
                assert (said["path"], said["code"], end) in found, (said, events)
        forgotten = self._known.index(said) if (said := self.said("forget") or {}) else 0
        for said in self._known[:forgotten]:
            if "path" in said:
                addresses = [event["address"] for event in events if event["path"] == said["path"]]
                assert None in addresses, (said, addresses)
        key = self.said("key")
        if key is None:
            return
        codes = Counter(event["code"] for event in events if event["key_id"] == key["id"])
        used = self.server.run(self.server.desk.usage(key["id"]))["items"]
        counted = (used[0]["allowed"], used[0]["calls"]) if used else (0, 0)
        assert counted == (codes["VALID"], codes.total()), (used, events)
        with self.server.opened.store.read() as connection:
            block = connection.execute(
                select(tables.keys.c.block).where(tables.keys.c.id == key["id"])
            ).scalar_one()
        spent = self.server.counters.read(block)[USES]
        # Above the journal by at most the one call that was in hand in each life.
        assert codes["VALID"] <= spent <= codes["VALID"] + self._lives, (spent, codes)

    def _look_at_audit(self) -> None:
        with self.server.opened.store.read() as connection:
            entries = set(connection.execute(select(tables.audit.c.id)).scalars())
        chained: Counter[str] = Counter()
        for segment in self._home.journal.glob("*-control-*.seg"):
            for line in segment.read_bytes().split(b"\n")[
                :-1
            ]:  # what is behind the last end of a line is a tear
                record = json.loads(line[:-65])
                if record["kind"] == "audit":
                    chained[record["entry"]] += 1
        assert set(chained) == entries, "each management action is in the chain"
        # A kill between the chain and the note of it enters them once more, never not at all.
        assert max(chained.values()) <= 1 + self._lives


def _secret_values(fact: Any) -> list[str]:
    versions = (*fact.versions, *fact.retired) if isinstance(fact, SecretFact) else ()
    return [value for version in versions for value in version.parts.values()]
