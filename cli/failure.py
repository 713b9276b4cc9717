"""What a command cannot do, said in one line."""

from __future__ import annotations


class Failure(Exception):
    """Ends the command with exit code 1; the text is for the person at the terminal."""
