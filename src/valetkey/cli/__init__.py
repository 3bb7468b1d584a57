"""The command line: a thin client of the control API. It imports nothing of the store, the vault or the gateway."""
