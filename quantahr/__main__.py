"""`python -m quantahr` is the `quantahr` command."""

from quantahr.cli import main

main()
