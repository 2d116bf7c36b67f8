"""What every room stands on: files, processes, git, archives, messages and errors."""
