"""The verbs of the command line; the only room that ends the process."""
