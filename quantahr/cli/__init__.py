"""The `quantahr` command."""

from quantahr.cli.main import main

__all__ = ["main"]
