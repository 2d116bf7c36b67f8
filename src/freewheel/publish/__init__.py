"""The way to a package index: the upload, its destination, a server, the lines that install."""
