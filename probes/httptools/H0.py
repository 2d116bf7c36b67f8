"""H0: importing httptools turns the GIL back on.

Releases:   httptools 0.7.1, built from its sdist for free-threaded CPython.
Supported:  yes. "import httptools" is all it takes.
Symptom:    RuntimeWarning: The global interpreter lock (GIL) has been enabled to load module
            'httptools.parser.parser', and from then on no two threads of the process run at once.
Cause:      neither extension module declares in Py_mod_gil that it can do without.

Pass (0):   the GIL stays off after importing the package, and each extension module alone.
Fail (1):   one of those imports turned it on.
Not run (2): no free-threaded CPython, no httptools, or an import failed.

Each import happens in a process of its own, without PYTHON_GIL and -X gil, which would hide it.
"""

import os
import subprocess
import sys

SECONDS = 60

# Imports one module. For an extension module its packages are stubs with nothing but a path:
# the real ones would import the other extension module too.
CHILD = """
import importlib, importlib.util, os, sys, types

name = sys.argv[1]
if sys._is_gil_enabled():
    sys.exit(3)
spec = importlib.util.find_spec("httptools")
if spec is None:
    sys.exit(4)
(path,) = spec.submodule_search_locations
for package in ("httptools", "httptools.parser"):
    if name.startswith(package + "."):
        stub = sys.modules[package] = types.ModuleType(package)
        stub.__path__ = [os.path.join(path, *package.split(".")[1:])]
try:
    module = importlib.import_module(name)
except BaseException as error:
    print(repr(error), file=sys.stderr)
    sys.exit(5)
if "." in name and not module.__file__.endswith((".so", ".pyd")):
    sys.exit(6)
sys.exit(10 if sys._is_gil_enabled() else 0)
"""

GIL_OFF, GIL_ON = 0, 10
OUTCOMES = {
    GIL_OFF: "off",
    3: "on before the import",
    4: "httptools is not installed",
    5: "import failed",
    6: "not an extension module",
    GIL_ON: "TURNED ON",
}


def gil_after_import(name):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHON_GIL"}
    child = [sys.executable, "-W", "ignore", "-c", CHILD, name]
    return subprocess.run(child, env=environment, timeout=SECONDS, check=False).returncode


def main():
    if not hasattr(sys, "_is_gil_enabled"):
        print("H0: could not run: this needs free-threaded CPython")
        return 2
    modules = ("httptools", "httptools.parser.parser", "httptools.parser.url_parser")
    codes = {name: gil_after_import(name) for name in modules}
    outcomes = (f"{name}: {OUTCOMES.get(code, code)}" for name, code in codes.items())
    print("H0: the GIL after importing " + ", ".join(outcomes))
    if not set(codes.values()) <= {GIL_OFF, GIL_ON}:
        return 2
    return 1 if GIL_ON in codes.values() else 0


if __name__ == "__main__":
    try:
        status = main()
    except Exception as error:
        print(f"H0: could not run: {error!r}")
        status = 2
    sys.exit(status)
