"""`python -m volery` is the `volery` command."""

from volery.cli.main import main

main()
