"""Whether a finished wheel can be trusted: verified, explained, rebuilt, reproduced, signed."""
