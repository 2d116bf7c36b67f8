"""Run inside the environment under test: imports modules and says, as JSON, what became of each.

A program of its own, for the standard library alone:
``python -I -W error importing.py DISTRIBUTION PACKAGE EXTENSION...``. It exits 0 when it has run to
its end; what went wrong is in the report.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Callable


def main() -> None:
    """Import the modules that the command line names, in order; the first is the package."""
    distribution, *modules = sys.argv[1:]
    # The documented way to ask; only free-threaded interpreters can be asked.
    gil_enabled: Callable[[], bool] = sys._is_gil_enabled  # type: ignore[attr-defined]  # noqa: SLF001
    failures: dict[str, str] = {}
    gil_turned_on_by = None
    for name in modules:
        try:
            import_module(name)
        except BaseException as error:  # noqa: BLE001  a module may raise anything, also SystemExit
            failures[name] = f"{type(error).__name__}: {error}"
        if gil_turned_on_by is None and gil_enabled():
            gil_turned_on_by = name
    package = sys.modules.get(modules[0])
    report = {
        "failures": failures,
        "gil_turned_on_by": gil_turned_on_by,
        "module_version": getattr(package, "__version__", None),
        "metadata_version": importlib.metadata.version(distribution),
        "python": sys.version,
    }
    sys.stdout.write(json.dumps(report))


def import_module(name: str) -> None:
    """Import a module; where only the package around it needs something absent, without that.

    greenlet's wheels, for one, have extension modules in a package of tests that needs psutil.
    """
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        top, parent = name.partition(".")[0], name.rpartition(".")[0]
        own_module_is_missing = (error.name or "").partition(".")[0] == top
        spec = importlib.util.find_spec(parent) if parent and parent != top else None
        if own_module_is_missing or spec is None:
            raise
        # The package is there for the import system, but its own code is not run.
        sys.modules[parent] = importlib.util.module_from_spec(spec)
        importlib.import_module(name)


if __name__ == "__main__":
    main()
