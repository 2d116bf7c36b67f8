"""Upstream's test suites, run on both wheels and compared."""
