"""The modules that the entry points name."""
