"""Named networks: a name that restrictions use instead of address blocks."""
