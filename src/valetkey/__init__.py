"""Valetkey: share the use of an API key, not the key."""
