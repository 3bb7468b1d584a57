"""Limits beyond one key: of a holder, of a service, of everything; and limits as people write them."""
