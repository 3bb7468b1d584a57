"""The main job on a fresh machine in under a minute, against a stand-in of a well-known API."""
