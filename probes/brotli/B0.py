# /// script
# requires-python = ">=3.14"
# dependencies = ["brotli==1.2.1"]
#
# [tool.freewheel.probe]
# defect = "B0"
# title = "importing brotli turns the GIL back on"
# releases = "<=1.2.1"
# use = "supported"
# passes = "the GIL stays off when brotli is imported, and subinterpreters can still import it"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""B0: importing brotli turns the GIL back on.

Use:        "import brotli", built from its sdist for free-threaded CPython, is all it takes.
Symptom:    RuntimeWarning: The global interpreter lock (GIL) has been enabled to load module
            '_brotli', and from then on no two threads of the process run at once.
Cause:      the module does not declare in Py_mod_gil that it can do without.

Shows:      whether the GIL is on before and after; and that the module can be imported by a
            subinterpreter with a GIL of its own, and used there, as before.
"""

import importlib.machinery
import sys
from concurrent import interpreters

WRONG_ANSWER, NOT_RUN = 3, 77  # docs/probes.md
USE = """
import brotli
data = b"some text, " * 100
assert brotli.decompress(brotli.compress(data)) == data
"""


def main():
    if sys._is_gil_enabled():  # noqa: SLF001  documented, underscore and all
        print("B0: this needs free-threaded CPython with the GIL off")
        return NOT_RUN
    if sys.flags.gil is not None:
        print("B0: PYTHON_GIL=0 or -X gil=0 would hide it")
        return NOT_RUN
    import _brotli  # what is measured

    if not _brotli.__file__.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES)):
        print(f"B0: _brotli is not an extension module: {_brotli.__file__}")
        return NOT_RUN
    if sys._is_gil_enabled():  # noqa: SLF001  documented, underscore and all
        print("B0: the GIL is on after importing brotli")
        return WRONG_ANSWER
    for _ in range(3):
        interpreter = interpreters.create()
        try:
            interpreter.exec(USE)
        except interpreters.ExecutionFailed as error:
            print(f"B0: in a subinterpreter: {error}")
            return WRONG_ANSWER
        interpreter.close()
    print("B0: the GIL is off after importing brotli")
    return 0


if __name__ == "__main__":
    sys.exit(main())
