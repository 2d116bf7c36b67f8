"""What the machine gives: an engine, a builder image, an interpreter, a server to test with."""
