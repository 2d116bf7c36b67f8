"""Each wheel says what is in it: to scanners in its SBOM, to people in METADATA and `explain`."""

import json
import re
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.metadata import Metadata

from freewheel.build import annotate, sbom, source
from freewheel.build.patches import read_series
from freewheel.machine.interpreter import Interpreter
from freewheel.recipe.building import Vendored
from freewheel.recipe.recipe import Release
from freewheel.trust import explain
from tests.integration.conftest import NEWEST, RECIPES, ROOT, Builder, Checkout, make_environment

pytestmark = pytest.mark.integration

VENDORED = [
    pytest.param(release, part, id=f"{release.project}-{release.version}-{part.name}")
    for recipe in RECIPES
    for release in recipe.releases
    for part in release.vendored
]
# How the headers of a part say its version: MAJOR, MINOR, and PATCH or RELEASE.
MACRO = r"#define {name}_VERSION_{part}\s+(\d+)"
PREFIXES = {"xxhash": "XXH"}  # of its macros, where that is not the name


def upstream(checkout: Checkout, release: Release) -> dict[str, bytes]:
    """Files of upstream's sdist, by their path in the source tree."""
    archive = source.fetch(release, checkout.workspace.sources)
    with tarfile.open(archive.path) as tar:
        return {
            member.name.partition("/")[2]: file.read()
            for member in tar.getmembers()
            if (file := tar.extractfile(member))
        }


@pytest.mark.parametrize("release", NEWEST)
def test_the_wheel_says_what_is_in_it(built: Builder, release: Release) -> None:
    record = built.patched(release.project, release.version)
    info = f"{release.project.replace('-', '_')}-{release.local_version}.dist-info"
    with zipfile.ZipFile(record.wheel) as archive:
        content = archive.read(f"{info}/{sbom.MEMBER}")
        metadata = Metadata.from_email(archive.read(f"{info}/METADATA"), validate=True)
        licences = {
            name: archive.read(f"{info}/licenses/{name}") for name in metadata.license_files or ()
        }

    assert sbom.problems(content, release.project, release.local_version) == []
    assert record.inputs["image"].encode() in content
    description = metadata.description or ""
    assert description.startswith(f"This is {release.project} {release.local_version}, a patched")
    assert f"{info}/{sbom.MEMBER}" in description
    for patch in read_series(release):
        assert f"- {', '.join(patch.defects)}: " in description
    assert annotate.UPSTREAM_LABEL in (metadata.project_urls or {})
    theirs = upstream(built, release)
    packages = {name.partition("/")[0] for name in licences if name not in theirs}
    assert packages == {
        part["name"]
        for part in json.loads(content)["components"]
        for told in part.get("properties", [])
        if (told["name"], told["value"]) == (sbom.ROLE, sbom.GRAFTED)
    }
    own = {name: text for name, text in licences.items() if name in theirs}
    assert own
    assert own == {name: theirs[name] for name in own}


@pytest.mark.parametrize("release", NEWEST)
def test_pip_shows_that_it_is_patched_and_where_the_sbom_is(
    built: Builder, interpreter: Interpreter, tmp_path: Path, release: Release
) -> None:
    environment = make_environment(tmp_path / "environment", interpreter, seed=["--seed"])
    environment.install(built.patched(release.project, release.version).wheel)

    shown = environment.run("-m", "pip", "show", "--verbose", "--files", release.project).stdout

    assert f"Version: {release.local_version}\n" in shown
    assert f"{annotate.UPSTREAM_LABEL}, https://" in shown
    assert f"{release.local_version}.dist-info/{sbom.MEMBER}\n" in shown


@pytest.mark.parametrize("release", NEWEST)
def test_explain_tells_the_patches_and_their_probes(built: Builder, release: Release) -> None:
    record = built.patched(release.project, release.version)

    printed = built.freewheel("explain", str(record.wheel))
    here = explain.explain(record.wheel, root=ROOT)

    assert record.sha256 in printed
    for patch in read_series(release):
        assert f"  {patch.name}\n    fixes     " in printed
        for defect in patch.defects:
            assert f"    fixes     {defect}: {patch.summary}\n" in printed
            assert f"    proven by probes/{release.project}/{defect}.py" in here
        assert patch.sha256 in printed
    for part in release.vendored:
        assert f"  {part.name} {part.version} (" in printed


@pytest.mark.parametrize("release", NEWEST)
def test_a_baseline_says_nothing(built: Builder, release: Release) -> None:
    record = built.baseline(release.project, release.version)

    said = built.freewheel("explain", str(record.wheel), code=17)

    assert "was not made by Freewheel" in said


@pytest.mark.parametrize(("release", "part"), VENDORED)
def test_what_the_recipe_says_of_a_vendored_part_is_what_the_source_says(
    built: Builder, release: Release, part: Vendored
) -> None:
    source = upstream(built, release)
    theirs = [path for path in source if Path(path).is_relative_to(part.path)]

    assert theirs
    if part.name == "pgproto":
        return  # upstream does not write its version down
    # A part that is one file has its header beside it.
    room = Path(part.path).parent if part.path in source else Path(part.path)
    headers = b"".join(
        source[path]
        for path in sorted(source)
        if path.endswith(".h") and Path(path).is_relative_to(room)
    ).decode()
    name = PREFIXES.get(part.name, part.name.upper().replace("-", "_"))
    found = [
        re.findall(MACRO.format(name=name, part=word), headers)
        for word in ("MAJOR", "MINOR", "(?:PATCH|RELEASE)")
    ]
    assert ".".join(number for (number,) in found) == part.version
