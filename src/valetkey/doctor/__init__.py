"""What is weak about one installation: facts are gathered, pure rules judge them, every finding names its mend."""
