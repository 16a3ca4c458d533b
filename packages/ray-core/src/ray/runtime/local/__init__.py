"""``local_mode``: the whole system in the calling thread."""
