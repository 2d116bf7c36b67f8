"""Freewheel: patched, proven and reproducible wheels for free-threaded CPython."""

__version__ = "0.1.0"
