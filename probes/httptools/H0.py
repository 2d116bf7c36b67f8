# /// script
# requires-python = "==3.14.*"
# dependencies = ["httptools==0.7.1"]
#
# [tool.freewheel.probe]
# defect = "H0"
# title = "importing httptools turns the GIL back on"
# releases = "==0.7.1"
# use = "supported"
# passes = "the GIL stays off when both extension modules are imported"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 60 }
# seconds = 60
# ///
"""H0: importing httptools turns the GIL back on.

Use:        "import httptools", built from its sdist for free-threaded CPython, is all it takes.
Symptom:    RuntimeWarning: The global interpreter lock (GIL) has been enabled to load module
            'httptools.parser.parser', and from then on no two threads of the process run at once.
Cause:      neither extension module declares in Py_mod_gil that it can do without.

Shows:      whether the GIL is on before and after. CPython looks at each extension module as it
            loads it, and what has turned the GIL on does not turn it off again.
"""

import importlib
import importlib.machinery
import sys

WRONG_ANSWER, NOT_RUN = 3, 77  # docs/probes.md
MODULES = ("httptools.parser.parser", "httptools.parser.url_parser")


def main():
    if sys._is_gil_enabled():  # noqa: SLF001  documented, underscore and all
        print("H0: this needs free-threaded CPython with the GIL off")
        return NOT_RUN
    if sys.flags.gil is not None:
        print("H0: PYTHON_GIL=0 or -X gil=0 would hide it")
        return NOT_RUN
    for name in MODULES:
        module = importlib.import_module(name)
        if not module.__file__.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES)):
            print(f"H0: {name} is not an extension module: {module.__file__}")
            return NOT_RUN
    if sys._is_gil_enabled():  # noqa: SLF001  documented, underscore and all
        print("H0: the GIL is on after importing httptools")
        return WRONG_ANSWER
    print("H0: the GIL is off after importing httptools")
    return 0


if __name__ == "__main__":
    sys.exit(main())
