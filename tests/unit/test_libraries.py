"""Libraries that a recipe builds: an image of their own, their archive by digest, their licence."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from freewheel.base.errors import FetchError
from freewheel.base.workspace import Workspace
from freewheel.build import libraries, sbom
from freewheel.build.grafts import find_grafts
from freewheel.machine.layer import Owner, base_of
from freewheel.recipe.building import Build, Graft, Library, Place
from tests.unit.sbommaker import RECIPE, annotated, built_wheel, make_contents

BASE = "local:1"
MEMBER = "speedy.libs/libtiny-0a1b2c3d.so.2"
PLACE = Place(file="speedy/__init__.py")


def archive(directory: Path, members: dict[str, str]) -> bytes:
    path = directory / "tiny.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, text in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return path.read_bytes()


def tiny(content: bytes = b"", **keys: Any) -> Library:  # noqa: ANN401  some are wrong
    told: dict[str, Any] = {
        "name": "tiny",
        "version": "1.2",
        "sha256": hashlib.sha256(content).hexdigest(),
        "sources": [{"index": "tiny"}],
        "commands": ["make install"],
        "licence": "MIT",
        "licence-file": "doc/LICENSE",
    }
    return Library.model_validate(told | keys)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(root=tmp_path, cache=tmp_path / "cache", data=tmp_path / "data")


def test_only_who_builds_libraries_gets_another_image() -> None:
    assert libraries.identity(BASE, ()) == BASE
    named = libraries.identity(BASE, [tiny()])
    assert named != libraries.identity("local:2", [tiny()])
    assert named != libraries.identity(BASE, [tiny(commands=["make", "make install"])])
    assert base_of(named) == BASE


def test_an_archive_comes_from_an_index_and_is_kept(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = archive(tmp_path, {"tiny-1.2/doc/LICENSE": "Do as you like."})
    index = tmp_path / "links"
    index.mkdir()
    (index / "tiny-1.2.tar.gz").write_bytes(content)
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    library = tiny(content)

    first = libraries.fetch(workspace, library)
    (index / "tiny-1.2.tar.gz").unlink()

    assert libraries.fetch(workspace, library) == first
    assert first.read_bytes() == content
    found = libraries.owners(workspace, [library])
    assert libraries.licences(found, [library]) == {"tiny/LICENSE": "Do as you like."}
    assert found["tiny"].purl == "pkg:generic/tiny@1.2"
    with pytest.raises(FetchError, match="has no file COPYING"):
        libraries.owners(workspace, [library.model_copy(update={"licence_file": "COPYING"})])


def test_other_bytes_are_refused_and_each_place_says_why(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "links"
    index.mkdir()
    (index / "tiny-1.2.tar.gz").write_bytes(b"something else")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_INDEX_URL", index.as_uri())
    sources = [{"url": "https://localhost:9/tiny.tar.gz"}, {"index": "tiny"}]

    with pytest.raises(FetchError, match=r"tiny 1\.2 could not be downloaded") as caught:
        libraries.fetch(workspace, tiny(b"right", sources=sources))

    unreachable, differs = caught.value.problems
    assert unreachable.startswith("https://localhost:9/tiny.tar.gz: ConnectionError")
    assert "SHA-256 differs" in differs
    assert not list((workspace.sources / tiny(b"right").sha256).iterdir())


def test_a_built_library_is_in_the_sbom_and_its_licence_in_the_wheel(tmp_path: Path) -> None:
    library = tiny(b"x", purl="pkg:github/example/tiny@v1.2")
    graft = Graft(name="libtiny.so.2", licence="MIT", library="tiny")
    owner = Owner(package="tiny", version="1.2", purl=library.purl, licence="Do as you like.")
    wheel = built_wheel(
        tmp_path / "built", members={MEMBER: b"ELF"}, metadata={"Metadata-Version": "2.4"}
    )
    grafts = find_grafts(wheel.path, [graft], lambda _: {}, {"tiny": owner})

    path = annotated(
        *(wheel, (), tmp_path / "annotated"),
        grafts=grafts,
        licences=libraries.licences({"tiny": owner}, [library]),
    )

    with zipfile.ZipFile(path) as made:
        licences = [name for name in made.namelist() if "/licenses/" in name]
    names = sorted(name.partition("/licenses/")[2] for name in licences)
    assert names == ["LICENSE", "tiny/LICENSE"]
    build = RECIPE.build.model_copy(update={"libraries": (library,)})
    contents = replace(make_contents(), recipe=replace(RECIPE, build=build), grafts=grafts)
    parts = json.loads(sbom.make(contents))["components"]
    built, grafted = (part for part in parts if part["name"] == "tiny" and part["version"] == "1.2")
    assert (built["bom-ref"], built["purl"]) == (library.purl, library.purl)
    assert built["hashes"] == [{"alg": "SHA-256", "content": library.sha256}]
    assert grafted["bom-ref"] == f"{library.purl}#libtiny.so.2"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"sources": []}, "at least 1"),
        ({"sources": [{"index": "tiny", "url": "https://localhost/x"}]}, "needs one of index"),
        ({"sources": [{"pool": "main/t/tiny.tar.gz"}]}, "pool"),
        ({"licence-file": "../LICENSE"}, "inside the source tree"),
    ],
)
def test_what_is_not_whole_is_refused(keys: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        tiny(**keys)


def test_libraries_and_grafts_agree() -> None:
    graft = Graft(name="libtiny.so.2", licence="MIT", library="tony")
    build = Build(version=(PLACE,), requires=(), libraries=(tiny(), tiny()), grafts=(graft,))

    assert list(build.problems()) == [
        "build.libraries: tiny is there twice",
        "build.grafts: libtiny.so.2 is of tony; build.libraries: tiny, tiny",
    ]
