"""The room that fills the gaps of a lock: what has no wheel is built from its sdist."""
