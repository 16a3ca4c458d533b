"""Built-in parts. They enter through the same hooks as a third party's."""
