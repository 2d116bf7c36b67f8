"""Puts copies of recipes/, patches/ and probes/ into the wheel, where `freewheel audit` reads them.

Everything else that setuptools needs to know is in pyproject.toml.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
DECLARED = ("recipes", "patches", "probes")


class WithDeclarations(build_py):
    """Builds the package, with what it knows of projects and their defects inside."""

    def run(self) -> None:
        """Copy the declarations as they are now; an editable installation reads the checkout's."""
        super().run()
        if self.editable_mode:
            return
        for name in DECLARED:
            target = Path(self.build_lib, "freewheel", "declared", name)
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))


setup(cmdclass={"build_py": WithDeclarations})
