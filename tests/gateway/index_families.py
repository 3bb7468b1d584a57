"""Keys of all relations in a world, and changes with the names of the keys that they concern."""

from __future__ import annotations

from gateway_world import GatewayWorld, secret_of, upstream_service
from valetkey.decision.policy import Policy
from valetkey.decision.restrictions import Networks
from valetkey.gateway.facts import Fact, NetworkFact, PartyFact, ServiceFact

OFFICE_ONLY = Policy((Networks(("office",)),))


def family(world: GatewayWorld) -> dict[str, str]:
    """Names of keys -> ids: two free ones, one of the office with a child, one of the vpn, one of ben's."""
    world.add_network("office", "203.0.113.0/24")
    world.add_network("vpn", "10.8.0.0/16")
    world.add_service("stripe")
    office = world.add_key(OFFICE_ONLY)
    made = {
        "free": world.add_key(),
        "office": office,
        "child": world.add_key(parent=office),
        "grandchild": world.add_key(parent=world.add_key(parent=office), holder="ben"),
        "vpn": world.add_key(Policy((Networks(("vpn", "203.0.113.7")),))),
        "ben": world.add_key(holder="ben"),
        "stripe": world.add_key(service="stripe"),
    }
    return {name: key.id for name, key in made.items()}


CHANGES: dict[str, tuple[Fact, set[str]]] = {
    "network": (NetworkFact("office", ("10.0.0.0/8",)), {"office", "child", "grandchild"}),
    "other network": (NetworkFact("vpn", ()), {"vpn"}),
    "network that nobody names": (NetworkFact("new", ("10.0.0.0/8",)), set()),
    "service": (
        ServiceFact("svc_weather", upstream_service(), locked=True),
        {"free", "office", "child", "grandchild", "vpn", "ben"},
    ),
    "other service": (ServiceFact("svc_stripe", None), {"stripe"}),
    "party": (PartyFact("pty_ben", "ben", removed=True), {"grandchild", "ben"}),
    "party that nobody is": (PartyFact("pty_eve", "eve"), set()),
    "secret": (secret_of("svc_weather", "another"), set()),
}
