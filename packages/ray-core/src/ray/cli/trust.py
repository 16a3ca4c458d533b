"""What one should know that starts a node which others use."""

from __future__ import annotations

import os

import click


def warn_of_trust() -> None:
    """Say who may do what on it."""
    import pwd

    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    click.echo(f"\nAnyone who has the key file can run programs on all nodes; on this one as user {user!r}.")
    if os.geteuid() == 0:
        click.echo("You are root, and so is every task here. Start nodes as another user if you do not want that.")
