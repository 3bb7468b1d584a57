"""Sealing of third parties' secrets: root key providers, envelope encryption, strength of values."""
