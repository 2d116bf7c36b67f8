"""Upkeep: what upstream has released since, patches carried over to it, and recipes begun."""
