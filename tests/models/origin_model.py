"""Origins taken apart by hand: what origin matching is compared with. Names of hosts only, no addresses."""

from __future__ import annotations

LABEL = set("abcdefghijklmnopqrstuvwxyz0123456789-_")


def parts(origin: str) -> tuple[str, list[str], int] | None:
    """Scheme, labels and port of what a browser may send, or None."""
    if any(ord(character) > 127 for character in origin):
        return None
    for scheme, default in (("https", 443), ("http", 80)):
        if origin.lower().startswith(scheme + "://"):
            rest = origin.lower()[len(scheme) + 3 :]
            host, colon, port_text = rest.partition(":")
            port = default
            if colon:
                if not port_text.isdigit() or port_text[0] == "0" or not 0 < int(port_text) < 65536:
                    return None
                port = int(port_text)
            labels = host.split(".")
            for label in labels:
                if not 1 <= len(label) <= 63 or not set(label) <= LABEL or "-" in (label[0], label[-1]):
                    return None
            return (scheme, labels, port) if len(host) <= 253 else None
    return None


def allowed(rules: list[str], origin: str | None) -> bool:
    sent = parts(origin) if origin is not None else None
    if sent is None:
        return False
    for rule in rules:
        wild = "://*." in rule
        wanted = parts(rule.replace("://*.", "://"))
        assert wanted is not None
        if (sent[0], sent[2]) != (wanted[0], wanted[2]):
            continue
        below = len(sent[1]) > len(wanted[1]) and sent[1][-len(wanted[1]) :] == wanted[1]
        if below if wild else sent[1] == wanted[1]:
            return True
    return False
