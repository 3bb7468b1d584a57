"""The one place where a call is allowed: pure rules that import nothing of the server."""
