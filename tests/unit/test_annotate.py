"""What a wheel says of itself: upstream's words are kept, and ours are added, in any markup."""

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from installer.sources import WheelFile
from markdown_it import MarkdownIt
from packaging.metadata import Metadata
from readme_renderer import rst

from freewheel.base.archives import repack_wheel
from freewheel.base.errors import BuildError
from freewheel.build import annotate, buildinfo, sbom, sdist
from freewheel.build.patches import Patch, PatchedTree
from freewheel.build.workshop import OnThisMachine
from tests.unit.sbommaker import (
    EXTENSION,
    IMAGE,
    RECIPE,
    RELEASE,
    annotated,
    built_wheel,
    make_series,
)
from tests.unit.wheelmaker import make_wheel

INFO = "speedy-1.0+ft.1.dist-info"
RST = "speedy -- fast\n==============\n\n**speedy** is `fast <https://example.org>`_.\n"
UPSTREAM = annotate.UPSTREAM_LABEL
FIELDS = """\
Metadata-Version: 2.4
Name: speedy
Version: 1.0
{urls}Classifier: A
Requires-Dist: b; extra == "c"
Provides-Extra: c
"""


@pytest.fixture
def series(tmp_path: Path) -> tuple[Patch, ...]:
    return make_series(tmp_path / "series")


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        WheelFile(archive).validate_record(validate_contents=True)
        return {name: archive.read(name) for name in archive.namelist()}


def metadata(path: Path) -> Metadata:
    return Metadata.from_email(contents(path)[f"{INFO}/METADATA"], validate=True)


def description(path: Path) -> str:
    return metadata(path).description or ""


def test_the_sbom_comes_in_and_the_rest_stays(tmp_path: Path, series: tuple[Patch, ...]) -> None:
    wheel = built_wheel(tmp_path / "raw", members={f"{INFO}/sboms/auditwheel.cdx.json": "theirs"})
    before = contents(wheel.path)

    after = contents(annotated(wheel, series, tmp_path / "out"))

    added = after.pop(f"{INFO}/{sbom.MEMBER}")
    assert sbom.problems(added, "speedy", "1.0+ft.1") == []
    changed = {f"{INFO}/METADATA", f"{INFO}/RECORD"}
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == changed
    assert after[f"{INFO}/sboms/auditwheel.cdx.json"] == b"theirs"


def test_the_same_wheel_gives_the_same_bytes(tmp_path: Path, series: tuple[Patch, ...]) -> None:
    first = annotated(built_wheel(tmp_path / "a"), series, tmp_path / "x")
    second = annotated(built_wheel(tmp_path / "b"), series, tmp_path / "y")

    assert first.read_bytes() == second.read_bytes()


def test_a_baseline_is_packed_again_and_says_nothing(tmp_path: Path) -> None:
    wheel = built_wheel(tmp_path / "raw")
    baseline = replace(wheel, version=RELEASE.version)
    repack_wheel(wheel.path, tmp_path / "expected", epoch=RELEASE.source_date_epoch)

    path = annotated(baseline, (), tmp_path / "out")

    assert path.read_bytes() == (tmp_path / "expected").read_bytes()


def test_an_extension_module_stays_executable(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "speedy", "1.0", members={EXTENSION: b"\x7fELF"}, mode=0o100755)

    repack_wheel(path, tmp_path / "out.whl", epoch=0, added={"speedy/new.py": b"", EXTENSION: b"x"})

    with zipfile.ZipFile(tmp_path / "out.whl") as archive:
        modes = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
        assert archive.read(EXTENSION) == b"x"
        assert archive.namelist()[:2] == [EXTENSION, "speedy/new.py"]
    assert (modes[EXTENSION], modes["speedy/new.py"]) == (0o100755, 0o100644)


def test_the_description_begins_with_what_this_is(
    tmp_path: Path, series: tuple[Patch, ...]
) -> None:
    wheel = built_wheel(tmp_path / "raw", description="# Speedy\n\nIs fast.\n")

    told = description(annotated(wheel, series, tmp_path / "out"))

    assert told.startswith("This is speedy 1.0+ft.1, a patched build of speedy 1.0 for free-thr")
    assert (
        "\n\n- S1: Make \\_name\\_ and \\*args\\* \\`safe\\`\n- S2: Count with one step\n\n" in told
    )
    assert "report it to the maintainers of the package index that this wheel came from." in told
    assert f"{INFO}/{sbom.MEMBER}" in told
    assert told.endswith("\n\n# Speedy\n\nIs fast.\n")


def test_without_an_address_no_url_is_made_up(tmp_path: Path, series: tuple[Patch, ...]) -> None:
    path = annotated(built_wheel(tmp_path / "raw"), series, tmp_path / "out")

    assert metadata(path).project_urls == {UPSTREAM: "https://example.org/speedy"}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "this wheel came from, at <https://example.com/issues>. What"),
        ("Example", "report it to Example, at <https://example.com/issues>. What"),
    ],
)
def test_with_an_address_trouble_goes_there(
    tmp_path: Path, series: tuple[Patch, ...], name: str, told: str
) -> None:
    url = "https://example.com/issues"

    path = annotated(built_wheel(tmp_path / "raw"), series, tmp_path / "out", name=name, url=url)

    assert (metadata(path).project_urls or {})[annotate.REPORT_LABEL] == url
    assert told in description(path)


def test_a_series_without_patches_says_so(tmp_path: Path) -> None:
    assert "It carries no patch.\n\nPlease" in description(
        annotated(built_wheel(tmp_path / "raw"), (), tmp_path / "out")
    )


def test_restructured_text_still_renders(tmp_path: Path, series: tuple[Patch, ...]) -> None:
    wheel = built_wheel(
        tmp_path / "raw",
        metadata={"Description-Content-Type": "text/x-rst"},
        description=RST,
    )
    told = description(annotated(wheel, series, tmp_path / "out", url="https://example.com/a_b"))

    rendered = rst.render(told)

    assert rst.render("`") is None  # it does refuse what is broken
    assert rendered is not None
    assert "<li><p>S1: Make _name_ and *args* `safe`</p></li>" in rendered.replace("\n", "")
    assert 'href="https://example.com/a_b"' in rendered
    assert "<strong>speedy</strong>" in rendered


def test_markdown_still_renders(tmp_path: Path, series: tuple[Patch, ...]) -> None:
    wheel = built_wheel(
        tmp_path / "raw",
        metadata={"Description-Content-Type": "text/markdown"},
        description="# Speedy\n",
    )
    told = description(annotated(wheel, series, tmp_path / "out", url="https://example.com/a_"))

    rendered = MarkdownIt("commonmark").render(told)

    assert "<li>S1: Make _name_ and *args* `safe`</li>" in rendered
    assert '<a href="https://example.com/a_">' in rendered
    assert "<h1>Speedy</h1>" in rendered


def test_plain_text_gets_no_backslashes(tmp_path: Path, series: tuple[Patch, ...]) -> None:
    wheel = built_wheel(
        tmp_path / "raw", metadata={"Description-Content-Type": "text/plain"}, description="x"
    )

    told = description(annotated(wheel, series, tmp_path / "out"))

    assert "- S1: Make _name_ and *args* `safe`\n" in told


@pytest.mark.parametrize(
    ("urls", "expected"),
    [
        ("", FIELDS.format(urls="") + "Project-URL: L, https://x\n"),
        (
            "Project-URL: A, https://a\nProject-URL: B,\n https://b\n",
            FIELDS.format(
                urls="Project-URL: A, https://a\nProject-URL: B,\n https://b\n"
                "Project-URL: L, https://x\n"
            ),
        ),
    ],
)
def test_fields_stay_in_order(urls: str, expected: str) -> None:
    text = FIELDS.format(urls=urls)

    made = annotate.annotated_metadata(text + "\nBody.\n", {"L": "https://x"}, "Intro.")

    assert made == expected + "\nIntro.\n\nBody.\n"


def test_metadata_without_a_description_gets_one() -> None:
    text = FIELDS.format(urls="")

    assert annotate.annotated_metadata(text, {}, "Intro.") == text + "\nIntro.\n\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FIELDS.format(urls="Description: old\n"), "description among the fields"),
        (FIELDS.format(urls="License-Expression: Unheard-Of\n"), "License-Expression|license"),
        (FIELDS.format(urls="").replace("Name: speedy\n", ""), "name"),
    ],
)
def test_metadata_that_would_not_be_valid_is_refused(text: str, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        annotate.annotated_metadata(text, {"L": "https://x"}, "Intro.")


def test_the_labels_are_as_the_specification_wants_them() -> None:
    for label in (annotate.UPSTREAM_LABEL, annotate.REPORT_LABEL):
        assert len(label) <= 32
        assert "," not in label


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('name = ""\n', "url: field required"),
        ('name = ""\nurl = "http://example.com"\n', "url: value error, must start with https://"),
        ('name = ""\nurl = ""\nmail = ""\n', "mail: extra inputs"),
        ("name = 1\nurl = ''\n", "name: input should be a valid string"),
        ("name =", "Invalid value"),
    ],
)
def test_a_publisher_that_is_not_valid_is_named(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "publisher.toml"
    path.write_text(text)

    with pytest.raises(BuildError) as caught:
        annotate.read_publisher(path)

    assert problem in "\n".join(caught.value.problems)
    assert "publisher.toml" in str(caught.value)


def test_the_publisher_of_this_checkout_is_empty() -> None:
    assert annotate.read_publisher(buildinfo.PUBLISHER) == annotate.Publisher(name="", url="")


def test_a_vendored_part_that_the_source_has_not_got_stops_the_sdist(tmp_path: Path) -> None:
    tree = PatchedTree(path=tmp_path, release=RELEASE, series=(), changed=frozenset())

    with pytest.raises(BuildError, match="tiny: the source has no vendor/tiny"):
        sdist.make_sdist(
            tree,
            RECIPE,
            tmp_path,
            baseline=False,
            workshop=OnThisMachine(interpreter=None, requirements=tmp_path),  # type: ignore[arg-type]
            log=tmp_path / "log",
        )


def test_a_wheel_without_metadata_is_refused(tmp_path: Path) -> None:
    wheel = built_wheel(tmp_path / "raw")
    with zipfile.ZipFile(wheel.path, "w") as archive:
        archive.writestr(f"{INFO}/RECORD", "")

    with pytest.raises(BuildError, match=r"it has no .*METADATA"):
        annotated(wheel, (), tmp_path / "out")


def test_what_the_annotations_are_made_of_is_an_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gather(recipe: object = RECIPE, release: object = RELEASE) -> dict[str, str]:
        return buildinfo.gather(recipe, release, [], version="1.0+ft.1", target="x")  # type: ignore[arg-type]

    recorded = gather() | {"image": IMAGE.identity}
    other = tmp_path / "publisher.toml"
    other.write_text('name = "other"\nurl = ""\n')
    part = RELEASE.vendored[0].model_copy(update={"version": "2.2"})

    def changed(current: dict[str, str]) -> list[str]:
        return buildinfo.changed(recorded, current, images=[IMAGE.identity])

    assert changed(gather(release=replace(RELEASE, vendored=(part,)))) == ["recipe"]
    assert changed(gather(recipe=replace(RECIPE, source_url="https://other"))) == ["recipe"]
    monkeypatch.setattr(buildinfo, "PUBLISHER", other)
    assert changed(gather()) == ["publisher"]
    assert {"build/annotate", "build/sbom"} <= set(buildinfo._PIPELINE)
