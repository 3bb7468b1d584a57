"""Who may do what: identities that ask, and the one frame that every management action runs in."""
