"""`python -m connector` is the command `storecue`."""

from connector.cli import main

main()
