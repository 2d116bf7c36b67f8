"""Lets ``python -m freewheel`` do what the ``freewheel`` command does."""

from freewheel.commands.main import main

main()
