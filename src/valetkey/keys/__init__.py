"""What a Valetkey key is: its kinds and their defaults, and the format of its text."""
