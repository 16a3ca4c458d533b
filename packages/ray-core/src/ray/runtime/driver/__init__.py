"""The driver: starts a node on this machine, prints what workers print, and takes everything down at the end."""
