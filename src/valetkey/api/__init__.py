"""The control API: a thin HTTP door to the operations and queries of all rooms. Holds no logic of its own."""
