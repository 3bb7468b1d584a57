"""What was agreed with a partner: every key that the partner holds is held to it, and dies with it."""
