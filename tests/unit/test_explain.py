"""Explaining a wheel: what people read is what the wheel says, and each bad file has its error."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from freewheel.base import archives, files
from freewheel.base.errors import VerifyError
from freewheel.build import sbom
from freewheel.build.patches import Patch
from freewheel.commands import main
from freewheel.proof import certificate
from freewheel.proof.make_certificate import issue
from freewheel.trust.explain import explain
from tests.unit.proofmaker import make_evidence
from tests.unit.sbommaker import annotated, built_wheel, make_series
from tests.unit.wheelmaker import make_wheel

MEMBER = f"speedy-1.0+ft.1.dist-info/{sbom.MEMBER}"


@pytest.fixture
def series(tmp_path: Path) -> tuple[Patch, ...]:
    return make_series(tmp_path / "series")


@pytest.fixture
def wheel(tmp_path: Path, series: tuple[Patch, ...]) -> Path:
    return annotated(built_wheel(tmp_path / "raw"), series, tmp_path / "out")


def with_sbom(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The wheel with its SBOM changed, and RECORD right."""
    with zipfile.ZipFile(path) as archive:
        document = json.loads(archive.read(MEMBER))
    change(document)
    target = path.parent / "changed" / path.name
    target.parent.mkdir()
    archives.repack_wheel(path, target, epoch=0, added={MEMBER: json.dumps(document).encode()})
    return target


def refusal(path: Path) -> str:
    with pytest.raises(VerifyError) as caught:
        explain(path, root=None)
    assert caught.value.hint
    return str(caught.value)


def test_it_tells_what_the_wheel_is_made_of(wheel: Path, series: tuple[Patch, ...]) -> None:
    lines = explain(wheel, root=None)

    text = "\n".join(lines)
    assert lines[0] == "speedy 1.0+ft.1: A wheel for tests"
    assert f"SHA-256   {files.sha256(wheel)}" in text
    assert f"upstream  speedy 1.0, its sdist has SHA-256\n            {'1' * 64}" in text
    assert "Patches (2)" in lines
    for patch in series:
        assert f"  {patch.name}" in lines
        assert f"    fixes     {patch.defects[0]}: {patch.summary}" in lines
        assert f"    SHA-256   {patch.sha256}" in lines
    assert "  tiny 2.1 (MIT) from vendor/tiny" in lines
    assert any(line.startswith("  setuptools 80.9.0") for line in lines)
    assert any(line.startswith("  cibuildwheel ") for line in lines)
    assert f"  local:1, manifest {'e' * 64}" in lines
    assert "To build it again (SOURCE_DATE_EPOCH=1767323045)" in lines
    assert f"    nox -s freewheel -- rebuild {wheel}" in lines
    assert "    nox -s build-speedy -- --release 1.0" in lines
    assert "trouble?" not in text


def test_it_tells_where_to_report_when_the_wheel_does(
    tmp_path: Path, series: tuple[Patch, ...]
) -> None:
    path = annotated(
        built_wheel(tmp_path / "raw"), series, tmp_path / "out", url="https://example.com/issues"
    )

    assert "  trouble?  https://example.com/issues" in explain(path, root=None)


def test_a_probe_is_named_where_the_checkout_has_it(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "probes" / "speedy").mkdir(parents=True)
    (tmp_path / "probes" / "speedy" / "S1.py").touch()

    here, nowhere = explain(wheel, root=tmp_path), explain(wheel, root=None)

    assert "    proven by probes/speedy/S1.py" in here
    assert "    proven by no probe: probes/speedy/S2.py is not in this checkout" in here
    assert "    proven by probes/speedy/S1.py in Freewheel's repository" in nowhere


def test_it_says_what_the_certificate_says(wheel: Path, tmp_path: Path) -> None:
    assert any(line.startswith("  certified no: ") for line in explain(wheel, root=None))

    issued = issue(make_evidence(tmp_path / "evidence"))
    about = issued.wheel.model_copy(
        update={
            "name": wheel.name,
            "project": "speedy",
            "size": wheel.stat().st_size,
            "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        }
    )
    baseline = issued.baseline.model_copy(update={"name": wheel.name.replace("1.0+ft.1", "1.0")})
    defect = issued.defects[0].model_copy(update={"id": "S1"})
    certificate.write(
        wheel, issued.model_copy(update={"wheel": about, "baseline": baseline, "defects": [defect]})
    )

    lines = explain(wheel, root=None)
    assert "  certified 2026-11-25, full proof, CPython 3.14.7 with the GIL off" in lines
    told = "              fails in 10 of 10 runs without the patch, in 0 of 40 with it"
    assert (
        lines[lines.index("    proven by probes/speedy/S1.py in Freewheel's repository") + 1]
        == told
    )

    certificate.write(wheel, issued)  # of another wheel
    assert any(line.startswith("  certified no: ") for line in explain(wheel, root=None))


def test_the_command_prints_the_lines(wheel: Path) -> None:
    done = CliRunner().invoke(main.commands, ["explain", str(wheel)])

    assert done.exit_code == 0, done.output
    assert "S1: Make _name_ and *args* `safe`" in done.output


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "there is no file" in refusal(tmp_path / "speedy-1.0-py3-none-any.whl")


def test_a_name_that_is_no_wheels(wheel: Path) -> None:
    assert "is not the name of a wheel" in refusal(wheel.rename(wheel.with_name("speedy.whl")))


@pytest.mark.parametrize("cut", [0, 10, 0.5, 0.99])
def test_a_wheel_that_is_cut_short(wheel: Path, cut: float) -> None:
    content = wheel.read_bytes()
    wheel.write_bytes(content[: int(cut if cut >= 1 else cut * len(content))])

    assert "is damaged or cut short" in refusal(wheel)


def test_a_wheel_with_a_damaged_sbom(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        start = archive.getinfo(MEMBER).header_offset + len(MEMBER) + 60
    content = bytearray(wheel.read_bytes())
    content[start : start + 40] = bytes(40)
    wheel.write_bytes(content)

    assert "is damaged or cut short" in refusal(wheel)


def test_a_zip_that_is_no_wheel(tmp_path: Path) -> None:
    path = tmp_path / "speedy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "")

    assert "it has 0 .dist-info directories" in refusal(path)


def test_a_wheel_that_is_not_ours(tmp_path: Path) -> None:
    assert "was not made by Freewheel" in refusal(make_wheel(tmp_path, "speedy", "1.0"))


def test_a_wheel_under_another_name(wheel: Path) -> None:
    other = wheel.rename(wheel.with_name(wheel.name.replace("ft.1", "ft.2")))

    assert "component.version is '1.0+ft.1', not '1.0+ft.2'" in refusal(other)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda bom: bom.update(bomFormat="Other"), "bomFormat: 'Other' is not one of"),
        (
            lambda bom: bom["metadata"]["component"]["pedigree"]["patches"][0]["diff"][
                "text"
            ].update(content="other"),
            "0001-name.patch: its text does not have the SHA-256 that is given for it",
        ),
        (
            lambda bom: bom["metadata"]["component"]["pedigree"]["patches"][1].pop("resolves"),
            "0002-count.patch: it resolves no defect",
        ),
        (
            lambda bom: bom["metadata"]["component"]["pedigree"].pop("ancestors"),
            "it names 0 releases",
        ),
        (lambda bom: bom["metadata"].pop("timestamp"), "it has no timestamp"),
    ],
)
def test_an_sbom_that_cannot_be_relied_on(
    wheel: Path, change: Callable[[dict[str, Any]], object], expected: str
) -> None:
    assert expected in refusal(with_sbom(wheel, change))
