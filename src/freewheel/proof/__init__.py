"""The proof: what a wheel is put through, what the unpatched build did, and the record of both."""
