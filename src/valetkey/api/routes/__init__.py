"""All routes, a file a room."""

from __future__ import annotations

from valetkey.api.routes import (
    audit,
    clock,
    events,
    keys,
    limits,
    networks,
    parties,
    partners,
    secrets,
    server,
    services,
    tokens,
    vault,
)

UNDER_API = [
    *services.ROUTES,
    *secrets.ROUTES,
    *networks.ROUTES,
    *parties.ROUTES,
    *partners.ROUTES,
    *limits.ROUTES,
    *keys.ROUTES,
    *events.ROUTES,
    *audit.ROUTES,
    *tokens.ROUTES,
    *clock.ROUTES,
    *vault.ROUTES,
    *server.ROUTES,
]
"""Routes below /api/v1."""

OPEN = server.OPEN
"""Routes for those who are not signed in."""
