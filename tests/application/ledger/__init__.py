"""A ledger: an API and a worker of the shape of the application that crashed.

It runs in an environment of its own, on a stack of ``tests/application/stacks/``.
"""
