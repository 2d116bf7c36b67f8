"""Run a program under limits on its resources.

It stands alone, for it runs in the interpreter that a wheel is tested with, and then becomes the
program: ``limits.py MEBIBYTES PROGRAM [ARGUMENT ...]``, where 0 mebibytes is no limit on memory.
Linux alone keeps to a limit on memory; Windows has none of these limits.
"""

import os
import sys

if sys.platform != "win32":
    import resource

FILE_SIZE = 1 << 30  # bytes; a program that floods its output gets an error, not the disk


def main() -> None:
    """Set the limits and become the program."""
    memory = int(sys.argv[1]) << 20
    if sys.platform != "win32":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_SIZE, FILE_SIZE))
        if memory and sys.platform == "linux":
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606  no shell is wanted


if __name__ == "__main__":
    main()
