# /// script
# requires-python = ">=3.14"
# dependencies = ["greenlet==3.5.6"]
#
# [tool.freewheel.probe]
# defect = "G12"
# title = "a wheel for one layout of the thread state is imported, and crashes, with another"
# releases = "<=3.5.6"
# use = "supported"
# passes = "imports with its own layout; with another, ImportError names both versions and a remedy"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 30
# ///
"""G12: a wheel for one layout of the thread state is imported, and crashes, with another.

Affects     all greenlet releases with free-threaded CPython 3.14 and 3.15. The same wheel is for
            all releases of a minor version.
When        the wheel was compiled for 3.14.4 or later and runs with an earlier one, or the other
            way round. The same would happen with 3.15 as soon as a release adds something.
What        crashes in switches (std::bad_alloc, segmentation faults); the import goes well.
Why         3.14.4 added a field to the thread state. So what greenlet needs and comes after it is
            in another place, and where greenlet looks, there is something else. In 3.15, there is
            also a frame before it.

Shows it    only the import, for there is just one interpreter here. That says of itself, for
            debuggers, how its thread state is laid out, in memory that can be written to. So each
            child of this program makes its interpreter say that it is some other release, laid
            out as that release is, and imports greenlet. Nothing is switched.
"""

import ctypes
import os
import re
import sys
import sysconfig

REFUSED = 120  # exit code of a child
VERSION, FREE_THREADED, SIZE = 1, 2, 22  # of _Py_DebugOffsets, in words of 64 bits
FRAME = 39  # the same with 3.15
FIELD = 8  # bytes; what 3.14.4 added
ADDED_IN = 4
MINOR = sys.version_info.minor


def description():
    """What the interpreter says of itself: _PyRuntime begins with a _Py_DebugOffsets."""
    return (ctypes.c_uint64 * (FRAME + 1)).in_dll(ctypes.pythonapi, "_PyRuntime")


def pretend(micro, size, more):
    """Import greenlet in a child whose interpreter says that it is the release ``micro``.

    Its thread state has ``size`` bytes, and its frames have ``more`` than they really have.

    Return the exit code and what was said.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = description()
        said[VERSION] = 0x030000F0 + (MINOR << 16) + (micro << 8)
        said[SIZE] = size
        if more:
            said[FRAME] += more
        try:
            import greenlet  # noqa: F401
        except ImportError as error:
            os.write(writer, str(error).encode())
            os._exit(REFUSED)
        os._exit(0)
    os.close(writer)
    text = os.read(reader, 4096).decode()
    os.close(reader)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


def problem(micro, size, own, more=0):
    """What is wrong with how such an interpreter is received; None if nothing is."""
    status, text = pretend(micro, size, more)
    if size == own and not more:
        return None if status == 0 else f"refused: {text}"
    if status != REFUSED:
        return f"not refused: exit code {status}"
    versions = set(re.findall(r"3\.1\d\.\w+", text))
    if len(versions) != 2 or f"3.{MINOR}.{micro}" not in versions or "pip install" not in text:
        return f"does not name both versions and a remedy: {text}"
    return None


def main():
    micro, own = sys.version_info.micro, description()[SIZE]
    if not sysconfig.get_config_var("Py_GIL_DISABLED") or MINOR not in (14, 15):
        print("G12: not a free-threaded interpreter of 3.14 or 3.15")
        return 77
    if description()[VERSION] != sys.hexversion or problem(micro, own, own):
        print("G12: cannot read the interpreter's description, or the wheel is not for it")
        return 77
    if MINOR == 14:
        before = own - FIELD if micro >= ADDED_IN else own
        others = [(other, before if other < ADDED_IN else before + FIELD, 0) for other in range(9)]
        others.append((99, before + 2 * FIELD, 0))  # the next that adds one
    else:
        others = [(98, own, 0), (99, own + FIELD, 0), (99, own, FIELD)]
    failed = False
    for other, size, more in others:
        wrong = problem(other, size, own, more)
        failed |= wrong is not None
        print(f"G12: 3.{MINOR}.{other}: {wrong or 'fine'}")
    return 3 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
