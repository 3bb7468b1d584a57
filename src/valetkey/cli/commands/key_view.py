"""How one key reads in a terminal: the sentences of the key's page."""

from __future__ import annotations

import time
from typing import Any

from valetkey.cli.figures import day_and_time, relative
from valetkey.cli.terminal import say, say_state

DEFAULT = "default"
"""Name of a service's usual secret; nobody who has only that one sees it."""

_DEAD = ("revoked", "expired")


def show_key(key: dict[str, Any], now: float | None = None) -> None:
    """Print one key, restrictions as sentences."""
    now = time.time() if now is None else now
    label = f" ({key['label']})" if key.get("label") else ""
    say_state(f"{key['id']}{label}, {key['kind']}, ending in {key['last4']}: ", life_of(key, now))
    named = key.get("secret") or DEFAULT
    with_secret = "" if named == DEFAULT else f" with its secret {named}"
    if key.get("because"):
        say(key["because"])
    say(f"Opens {key['service']}{with_secret} for {key['holder']}, in {key['environment']}.")
    say()
    for sentence in key.get("sentences") or ("No restrictions",):
        say(f"  {sentence.rstrip('.')}.")
    for held in key.get("within") or ():
        what = f"the agreement with {held['name']}" if held["what"] == "agreement" else held["name"]
        say(f"  Within {what}: {' '.join(held['sentences'])}")
    say()
    say(f"  Made {relative(key['created'], now)}, {day_and_time(key['created'])}.")
    if key.get("ended") is not None:
        say(f"  Ended {relative(key['ended'], now)}, {day_and_time(key['ended'])}.")
    elif key.get("because") and key["state"] in _DEAD:
        pass  # dead by what it hangs on: an end of its own would only mislead
    elif key.get("expires") is None:
        say("  Never expires by itself.")
    else:
        verb = "Expires" if key["expires"] > now else "Expired"
        say(f"  {verb} {relative(key['expires'], now)}, {day_and_time(key['expires'])}.")
    if key.get("review") is not None and key.get("ended") is None and key["state"] not in _DEAD:
        say(f"  To be reviewed {day_and_time(key['review'])}.")
    if key.get("exposed") is not None:
        say(
            f"  Exposed {relative(key['exposed'], now)}, {day_and_time(key['exposed'])}: it came in plain text."
        )
    if key.get("pinned") is not None:
        say(f"  Pinned to {key['pinned']}.")
    if key.get("session") is not None and key.get("ended") is None and key["state"] not in _DEAD:
        say(f"  Ends with {key['session']}.")
    if key.get("parent"):
        say(f"  Derived from {key['parent']}.")
    if key.get("dropped") is not None:
        say("  So long ago that a call with it is answered UNKNOWN_KEY.")
    derived = key.get("derived") or ()
    if derived:
        say()
        say("  Keys that come from it and live:")
        for one in derived:
            name = f" ({one['label']})" if one["label"] else ""
            end = "" if one["expires"] is None else f", until {day_and_time(one['expires'])}"
            say(f"    {one['id']}{name} for {one['holder']}{end}")
        if key["derived_count"] > len(derived):
            say(f"    and {key['derived_count'] - len(derived):,} more")


def life_of(key: dict[str, Any], now: float) -> str:
    """The key's state as a person means it: an active key past its end is expired, one that others read exposed."""
    if key["state"] == "active" and key.get("exposed") is not None:
        return "exposed"
    expires = key.get("expires")
    over = key["state"] == "active" and expires is not None and expires <= now
    return "expired" if over else str(key["state"])
