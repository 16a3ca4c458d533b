"""References to objects, as users hold them: awaited, asked as futures, counted."""
