"""The version shared by every distribution of the repository."""

__version__ = "0.1.0"
