"""The SBOM: valid in strict mode, complete, the same for the same inputs and no other."""

import hashlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from freewheel.base.errors import BuildError
from freewheel.base.workspace import PACKAGE
from freewheel.build import sbom
from freewheel.build.patches import Patch
from freewheel.machine import requirements
from tests.unit.sbommaker import IMAGE, PART, RECIPE, RELEASE, make_contents, make_series

SOURCE = PACKAGE.parent


@pytest.fixture
def series(tmp_path: Path) -> tuple[Patch, ...]:
    return make_series(tmp_path / "series")


@pytest.fixture
def document(series: tuple[Patch, ...]) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(sbom.make(make_contents(series)))
    return made


def component(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = [item for item in document["components"] if item["name"] == name]
    assert len(found) == 1
    return found[0]


def roles(document: dict[str, Any]) -> dict[str, str]:
    return {
        item["name"]: entry["value"]
        for item in document["components"]
        for entry in item["properties"]
        if entry["name"] == sbom.ROLE
    }


def test_it_validates_in_strict_mode(series: tuple[Patch, ...]) -> None:
    text = sbom.make(make_contents(series))

    assert sbom.problems(text.encode(), "speedy", "1.0+ft.1") == []
    assert json.loads(text)["specVersion"] == "1.7"


def test_without_patches_and_parts_it_validates_too(recwarn: pytest.WarningsRecorder) -> None:
    bare = replace(make_contents(release=replace(RELEASE, vendored=())), licence="")

    assert sbom.problems(sbom.make(bare).encode(), "speedy", "1.0+ft.1") == []
    assert [str(warning.message) for warning in recwarn.list] == []


def test_the_main_component_is_the_patched_wheel(document: dict[str, Any]) -> None:
    main = document["metadata"]["component"]

    assert (main["name"], main["version"]) == ("speedy", "1.0+ft.1")
    assert main["purl"].startswith("pkg:pypi/speedy@1.0%2Bft.1?file_name=speedy-1.0%2Bft.1-cp314")
    assert main["licenses"] == [{"expression": "MIT"}]


def test_the_upstream_release_is_the_ancestor(document: dict[str, Any]) -> None:
    (ancestor,) = document["metadata"]["component"]["pedigree"]["ancestors"]

    assert (ancestor["name"], ancestor["version"]) == ("speedy", "1.0")
    assert ancestor["purl"] == "pkg:pypi/speedy@1.0?file_name=speedy-1.0.tar.gz"
    assert ancestor["hashes"] == [{"alg": "SHA-256", "content": "1" * 64}]


def test_each_patch_is_there_whole_in_order_and_with_its_defect(
    document: dict[str, Any], series: tuple[Patch, ...]
) -> None:
    patches = document["metadata"]["component"]["pedigree"]["patches"]

    assert [patch["resolves"][0]["id"] for patch in patches] == ["S1", "S2"]
    for told, patch in zip(patches, series, strict=True):
        assert told["type"] == "unofficial"
        text = told["diff"]["text"]["content"]
        assert text == patch.path.read_text(encoding="utf-8")
        assert hashlib.sha256(text.encode()).hexdigest() == patch.sha256
        assert told["diff"]["url"] == f"patches/speedy/1.0/{patch.name}#sha256={patch.sha256}"
        assert told["resolves"] == [
            {
                "type": "defect",
                "id": patch.defects[0],
                "name": patch.summary,
                "description": f"{patch.summary}\nWhy, in full. Straße.",
            }
        ]


def test_a_vendored_part_is_a_component_of_the_wheel(document: dict[str, Any]) -> None:
    part = component(document, "tiny")

    assert part["version"] == "2.1"
    assert part["licenses"] == [{"expression": "MIT"}]
    assert part["purl"] == PART.purl
    assert part["scope"] == "required"
    assert {"name": sbom.PATH, "value": "vendor/tiny"} in part["properties"]


def test_what_made_the_wheel_is_told_and_excluded(document: dict[str, Any]) -> None:
    told = roles(document)
    lock = requirements.build_lock(RECIPE.build.requires)

    assert {name for name, role in told.items() if role == sbom.REQUIREMENT} == {
        line.partition("==")[0] for line in lock.splitlines() if "==" in line
    }
    assert {name for name, role in told.items() if role == sbom.TOOL} == {"build", "cibuildwheel"}
    for name, role in told.items():
        if role != sbom.VENDORED:
            assert component(document, name)["scope"] == "excluded"
    hashes = [
        entry["content"]
        for name, role in told.items()
        if role == sbom.REQUIREMENT
        for entry in component(document, name)["hashes"]
    ]
    assert len(hashes) == lock.count("--hash=sha256:")
    assert all(digest in lock for digest in hashes)


def test_a_local_image_is_told_with_its_manifest(document: dict[str, Any]) -> None:
    image = component(document, "localhost/builder:1")

    properties = {entry["name"]: entry["value"] for entry in image["properties"]}
    assert image["type"] == "container"
    assert properties[sbom.IDENTITY] == "local:1"
    assert properties[sbom.MANIFEST] == "e" * 64


def test_an_official_image_is_told_with_its_digest() -> None:
    reference = f"registry.example/manylinux:1@sha256:{'d' * 64}"
    official = replace(
        IMAGE, reference=reference, identity=reference, origin="official", manifest=""
    )
    text = sbom.make(replace(make_contents(), image=official))

    assert sbom.problems(text.encode(), "speedy", "1.0+ft.1") == []
    image = component(json.loads(text), "registry.example/manylinux:1")
    assert image["hashes"] == [{"alg": "SHA-256", "content": "d" * 64}]


def test_the_wheel_depends_on_every_component(document: dict[str, Any]) -> None:
    main = document["metadata"]["component"]["bom-ref"]
    graph = {entry["ref"]: set(entry.get("dependsOn", ())) for entry in document["dependencies"]}

    assert graph[main] == {item["bom-ref"] for item in document["components"]}


def test_the_time_is_that_of_the_release(document: dict[str, Any]) -> None:
    assert document["metadata"]["timestamp"] == "2026-01-02T03:04:05+00:00"


def test_other_processes_make_the_same_bytes(series: tuple[Patch, ...], tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from freewheel.build import sbom;"
        "from tests.unit.sbommaker import make_contents, make_series;"
        "print(sbom.make(make_contents(make_series(Path(sys.argv[1])))), end='')"
    )
    made = set()
    for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo")):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "TZ": zone,
            "PYTHONPATH": os.pathsep.join([str(SOURCE), str(Path(__file__).parents[2])]),
        }
        done = subprocess.run(
            [sys.executable, "-c", program, tmp_path / f"elsewhere {seed}"],
            env=environment,
            capture_output=True,
            check=True,
        )
        made.add(done.stdout)

    assert made == {sbom.make(make_contents(series)).encode()}


@pytest.mark.parametrize(
    "change",
    [
        lambda contents: replace(contents, release=replace(contents.release, sha256="2" * 64)),
        lambda contents: replace(contents, release=replace(contents.release, revision=2)),
        lambda contents: replace(
            contents,
            release=replace(
                contents.release, released=contents.release.released + timedelta(seconds=1)
            ),
        ),
        lambda contents: replace(contents, series=contents.series[:1]),
        lambda contents: replace(contents, image=replace(IMAGE, manifest="f" * 64)),
        lambda contents: replace(contents, file_name="speedy-1.0+ft.1-other.whl"),
        lambda contents: replace(contents, licence="Apache-2.0"),
    ],
)
def test_other_inputs_give_another_serial_number(
    series: tuple[Patch, ...], change: Callable[[sbom.Contents], sbom.Contents]
) -> None:
    contents = make_contents(series)

    numbers = {json.loads(sbom.make(made))["serialNumber"] for made in (contents, change(contents))}
    assert len(numbers) == 2
    assert {uuid.UUID(number).version for number in numbers} == {5}


def test_a_patch_that_was_changed_meanwhile_is_refused(series: tuple[Patch, ...]) -> None:
    series[1].path.write_text("other", encoding="utf-8")

    with pytest.raises(BuildError, match=r"0002-count\.patch was changed"):
        sbom.make(make_contents(series))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"type": "unofficial"', '"type": "secret"', "'secret' is not one of"),
        ('"SHA-256"', '"SHA-0"', "'SHA-0' is not one of"),
        ('"bomFormat"', '"format"', "'bomFormat' is a required property"),
        ("{", "", "not JSON"),
        ('"specVersion": "1.7"', '"specVersion": "9"', "'9' is no version of CycloneDX"),
        ('"version": "1.0+ft.1"', '"version": "1.0+ft.2"', "component.version is '1.0+ft.2'"),
        (
            '"purl": "pkg:pypi/speedy@1.0%2Bft.1',
            '"purl": "pkg:pypi/speedy@1.0',
            "component.purl is",
        ),
        ('"purl": "pkg:pypi/speedy@1.0%', '"purl": "speedy@1.0%', "component.purl: "),
    ],
)
def test_each_fault_is_named(series: tuple[Patch, ...], old: str, new: str, expected: str) -> None:
    text = sbom.make(make_contents(series))
    assert old in text

    found = sbom.problems(text.replace(old, new, 1).encode(), "speedy", "1.0+ft.1")

    assert expected in "\n".join(found)


def test_an_sbom_of_another_project_is_named() -> None:
    content = sbom.make(make_contents()).encode()

    assert "component.name is 'speedy', not 'slow'" in "\n".join(
        sbom.problems(content, "slow", "1.0+ft.1")
    )


def test_bytes_that_are_no_text_are_named() -> None:
    assert sbom.problems(b"\xff", "speedy", "1.0+ft.1")[0].startswith("not JSON")
