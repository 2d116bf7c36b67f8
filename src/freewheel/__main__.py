"""Lets ``python -m freewheel`` do what the ``freewheel`` command does."""

from freewheel.cli import main

main()
