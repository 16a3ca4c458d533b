"""The control store in a Redis or Valkey server: the session's own, or one that is there already.

``redis`` is imported by the thread of a handle, and nowhere else in a session: see ``handle``.
"""
