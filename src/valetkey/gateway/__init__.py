"""The data plane: what happens to a call between the listener and the upstream."""
