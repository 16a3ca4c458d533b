"""Shells: the processes of a session, their threads, sockets and clocks."""
