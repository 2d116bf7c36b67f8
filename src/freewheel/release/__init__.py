"""The release: what is built where, and how its wheels go from job to job and out to an index."""
