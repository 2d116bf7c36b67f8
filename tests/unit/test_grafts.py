"""System packages: an image of its own for who names them, and what comes from them is told."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from freewheel.base.errors import MachineError
from freewheel.build import sbom
from freewheel.build.annotate import annotated_metadata
from freewheel.build.grafts import Grafted, find_grafts
from freewheel.machine import debian, layer
from freewheel.machine.image import BuilderImage
from freewheel.recipe.building import Graft, SystemPackages
from tests.unit.sbommaker import IMAGE, annotated, built_wheel, make_contents

BASE = "local:1"
LIBPQ = SystemPackages(apt=("libpq-dev",))
GRAFT = Graft(name="libpq.so.5", licence="PostgreSQL")
MEMBER = "speedy.libs/libpq-0a1b2c3d.so.5.15"
OWNER = layer.Owner(
    package="libpq5",
    version="15.1-0+deb12u1",
    purl="pkg:deb/debian/libpq5@15.1-0%2Bdeb12u1?arch=amd64",
    licence="Do as you like with it.",
)


def test_only_who_names_packages_gets_another_image() -> None:
    assert layer.identity(BASE, SystemPackages()) == BASE
    named = layer.identity(BASE, LIBPQ)
    assert named != BASE
    assert named != layer.identity("local:2", LIBPQ)
    assert named != layer.identity(BASE, SystemPackages(apt=("libssl-dev",)))
    assert layer.base_of(named) == BASE
    assert layer.base_of(BASE) == BASE


@pytest.mark.parametrize(
    ("origin", "reference", "expected"),
    [
        ("local", "localhost/builder:1", ("apt", ("a",))),
        ("official", "registry/manylinux_2_28_x86_64:1@sha256:2", ("dnf", ("b",))),
        ("official", "registry/musllinux_1_2_x86_64:1@sha256:2", ("apk", ("c",))),
    ],
)
def test_each_image_has_its_package_manager(
    origin: str, reference: str, expected: tuple[str, tuple[str, ...]]
) -> None:
    image = BuilderImage(reference=reference, identity="x", origin=origin)  # type: ignore[arg-type]
    packages = SystemPackages(apt=("a",), dnf=("b",), apk=("c",))

    assert layer._of_image(image, packages) == expected


def test_what_cannot_be_added_is_refused() -> None:
    official = BuilderImage(reference="manylinux", identity="x", origin="official")

    with pytest.raises(MachineError, match="no packages can be added") as caught:
        layer._of_image(official, LIBPQ)
    assert caught.value.problems == ("build.system-packages names none for dnf",)
    with pytest.raises(MachineError) as caught:
        layer._of_image(replace(official, origin="custom"), LIBPQ)
    assert "FREEWHEEL_IMAGE" in caught.value.problems[0]


def test_a_grafted_library_is_found_with_its_package(tmp_path: Path) -> None:
    wheel = built_wheel(tmp_path, members={MEMBER: b"ELF"})

    (found,) = find_grafts(wheel.path, [GRAFT], lambda names: dict.fromkeys(names, OWNER))

    assert (found.library, found.member, found.owner) == ("libpq.so.5", MEMBER, OWNER)
    assert find_grafts(wheel.path, [], lambda names: dict.fromkeys(names, OWNER)) == ()


def test_a_grafted_library_is_in_the_sbom_and_its_licence_in_the_wheel(tmp_path: Path) -> None:
    wheel = built_wheel(
        tmp_path / "built", members={MEMBER: b"ELF"}, metadata={"Metadata-Version": "2.4"}
    )
    grafts = find_grafts(wheel.path, [GRAFT], lambda names: dict.fromkeys(names, OWNER))

    path = annotated(wheel, (), tmp_path / "annotated", grafts=grafts)

    with zipfile.ZipFile(path) as archive:
        info = next(n for n in archive.namelist() if n.endswith("/METADATA")).partition("/")[0]
        assert archive.read(f"{info}/licenses/libpq5/copyright").decode() == OWNER.licence
        assert "License-File: libpq5/copyright\n" in archive.read(f"{info}/METADATA").decode()
        document = json.loads(archive.read(f"{info}/{sbom.MEMBER}"))
    (part,) = [item for item in document["components"] if item["name"] == "libpq5"]
    assert part["version"] == OWNER.version
    assert part["purl"] == OWNER.purl
    assert part["licenses"] == [{"expression": "PostgreSQL"}]
    told = {item["name"]: item["value"] for item in part["properties"]}
    assert told[sbom.ROLE] == sbom.GRAFTED
    assert told[sbom.PATH] == MEMBER
    assert told[sbom.ORIGIN] == IMAGE.identity


def library(name: str) -> Grafted:
    return Grafted(
        library=name, member=f"speedy.libs/{name}", sha256="a" * 64, licence="MIT", owner=OWNER
    )


def test_two_libraries_of_one_package_are_two_components() -> None:
    grafts = tuple(map(library, ("libcrypto.so.3", "libssl.so.3")))
    document = json.loads(sbom.make(replace(make_contents(), grafts=grafts)))

    found = [item["bom-ref"] for item in document["components"] if item["name"] == "libpq5"]
    assert found == [f"{OWNER.purl}#libcrypto.so.3", f"{OWNER.purl}#libssl.so.3"]


def test_licences_are_listed_after_upstreams() -> None:
    metadata = "Metadata-Version: 2.4\nName: a\nVersion: 1\nLicense-File: LICENSE\n"

    made = annotated_metadata(metadata, {}, "told", ["libpq5/copyright"])

    assert "License-File: LICENSE\nLicense-File: libpq5/copyright\n" in made


def test_what_the_image_says_of_a_library_is_read() -> None:
    licence = base64.b64encode(OWNER.licence.encode()).decode()

    named, owner = layer._owner(
        f"libpq.so.5 deb debian bookworm libpq5 15.1-0+deb12u1 amd64 {licence}"
    )

    assert named == "libpq.so.5"
    assert owner == replace(OWNER, purl=f"{OWNER.purl}&distro=bookworm")
    with pytest.raises(ValueError, match="unpack"):
        layer._owner("libpq.so.5 deb debian bookworm")


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="dpkg-deb is of Debian and Ubuntu")
def test_the_licence_of_a_package_is_read_out_of_it(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    control = "Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <a@b.c>\n"
    for name, text in {
        "DEBIAN/control": f"{control}Description: small\n",
        "usr/share/doc/tiny/copyright": "Do as you like.",
    }.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    package = tmp_path / "tiny_1_all.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, package], check=True)

    assert list(debian.copyright_of(package)) == [("tiny", "Do as you like.")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny_1_all.deb", "tree"]
