"""A release with two patches and a vendored part, its SBOM, and its annotated wheel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from freewheel.build import annotate, sbom
from freewheel.build.grafts import Grafted
from freewheel.build.patches import Patch, read_series
from freewheel.build.wheel import Wheel
from freewheel.machine import requirements
from freewheel.machine.image import BuilderImage
from freewheel.recipe.building import Build, Place, Vendored
from freewheel.recipe.recipe import Recipe, Release
from freewheel.recipe.targets import Targets
from tests.unit.wheelmaker import LINUX_TAG, make_wheel

TARGET = "cp314t-manylinux_x86_64"
EXTENSION = "speedy/core.cpython-314t-x86_64-linux-gnu.so"
MEMBERS: dict[str, bytes | str] = {"speedy/__init__.py": "", EXTENSION: b"\x7fELF"}
IMAGE = BuilderImage(
    reference="localhost/builder:1", identity="local:1", origin="local", manifest="e" * 64
)
PART = Vendored(
    name="tiny",
    version="2.1",
    licence="MIT",
    path="vendor/tiny",
    purl="pkg:github/example/tiny@v2.1",
)
RELEASE = Release(
    project="speedy",
    version="1.0",
    sha256="1" * 64,
    released=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    revision=1,
    patches=(),
    vendored=(PART,),
)
RECIPE = Recipe(
    path=Path("speedy.toml"),
    name="speedy",
    summary="something fast",
    import_name="speedy",
    source_url="https://example.org/speedy",
    build=Build(version=(Place(file="speedy/__init__.py"),), requires=("cython", "setuptools")),
    targets=Targets(served=(TARGET,)),
    releases=(RELEASE,),
)
_PATCH = """\
Description: {summary}
 Why, in full. Straße.
Origin: vendor
Forwarded: no
Author: The Freewheel authors
Last-Update: 2026-11-23
X-Defect: {defect}
X-Release: 1.0
---
diff --git a/speedy/core.pyx b/speedy/core.pyx
--- a/speedy/core.pyx
+++ b/speedy/core.pyx
@@ -1 +1 @@
-x = {defect!r}
+x = None
"""


def make_series(directory: Path) -> tuple[Patch, ...]:
    """Two patches: S1 with characters that markup could take for its own, and S2."""
    directory.mkdir(parents=True, exist_ok=True)
    names = ("0001-name.patch", "0002-count.patch")
    told = (("S1", "Make _name_ and *args* `safe`"), ("S2", "Count with one step"))
    for name, (defect, summary) in zip(names, told, strict=True):
        text = _PATCH.format(defect=defect, summary=summary)
        (directory / name).write_text(text, encoding="utf-8")
    return read_series(replace(RELEASE, patches=tuple(directory / name for name in names)))


def make_contents(series: Sequence[Patch] = (), *, release: Release = RELEASE) -> sbom.Contents:
    return sbom.Contents(
        file_name=f"speedy-{release.local_version}-{LINUX_TAG}.whl",
        recipe=RECIPE,
        release=release,
        licence="MIT",
        series=tuple(series),
        requirements=requirements.build_lock(RECIPE.build.requires),
        image=IMAGE,
    )


def built_wheel(
    directory: Path,
    *,
    members: Mapping[str, bytes | str] | None = None,
    metadata: Mapping[str, str | Sequence[str] | None] | None = None,
    description: str = "",
) -> Wheel:
    """The wheel as cibuildwheel would leave it."""
    fields: dict[str, str | Sequence[str] | None] = {
        "License-Expression": "MIT",
        "License-File": "LICENSE",
        **(metadata or {}),
    }
    version = RELEASE.local_version
    if description:
        # wheelmaker writes fields only; the blank line ends them.
        fields["Dynamic"] = "license-file\n\n" + description.removesuffix("\n")
    licence = {f"speedy-{version}.dist-info/licenses/LICENSE": "Do as you like."}
    path = make_wheel(
        directory,
        "speedy",
        version,
        members={**MEMBERS, **licence, **(members or {})},
        metadata=fields,
    )
    return Wheel(path=path, release=RELEASE, version=version, target=TARGET)


def annotated(
    wheel: Wheel,
    series: Sequence[Patch],
    directory: Path,
    *,
    name: str = "",
    url: str = "",
    grafts: Sequence[Grafted] = (),
    licences: Mapping[str, str] | None = None,
) -> Path:
    """The wheel after the stage *annotate*; ``name`` and ``url`` are the publisher's."""
    directory.mkdir(parents=True, exist_ok=True)
    publisher = directory / "publisher.toml"
    publisher.write_text(f'name = "{name}"\nurl = "{url}"\n', encoding="utf-8")
    done = annotate.annotate(
        wheel,
        RECIPE,
        series,
        directory,
        image=IMAGE,
        requirements=requirements.build_lock(RECIPE.build.requires),
        publisher=publisher,
        grafts=grafts,
        licences=licences,
    )
    return done.path
