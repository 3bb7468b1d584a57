"""How the server is, for those who are signed in."""

from __future__ import annotations

import os
from typing import Any

from valetkey.journal.segment import product_version
from valetkey.server.home import Home
from valetkey.server.readiness import lacking, words
from valetkey.server.record import Recorder
from valetkey.server.workers import Workers
from valetkey.settings import Settings


def status(
    home: Home, settings: Settings, workers: Workers, recorder: Recorder, wall: float
) -> dict[str, Any]:
    """As the API gives it."""
    served_by = [
        {
            "slot": w.slot,
            "pid": w.pid,
            "generation": w.generation,
            "ready": w.ready and w.channel is not None,
        }
        for w in workers.known.values()
    ]
    missing = lacking(
        workers.known.values(),
        journal=home.journal,
        journal_failed=recorder.failed,
        newest=recorder.newest,
        wall=wall,
    )
    return {
        "version": product_version(),
        "home": str(home.folder),
        "pid": os.getpid(),
        "ready": not missing,
        "missing": [one.detail for one in missing],
        "not_ready": words(missing),
        # Records that do not fit keep no call from being decided: they are for a person to look at.
        "degraded": [
            *(f"Journal problem: {problem} See: valetkey audit verify" for problem in recorder.problems),
            *recorder.witnesses.troubles,
        ],
        "workers": served_by,
        "gateway_port": settings.gateway_port,
        "control_port": settings.control_port,
        "tls": settings.tls,
        "public_name": next(iter(settings.public_name), None),
    }
