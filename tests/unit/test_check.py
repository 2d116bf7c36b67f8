"""Checks on a finished wheel: each fault gives its own code, and a sound wheel gives none."""

import zipfile
from pathlib import Path

import pytest

from freewheel.base import files
from freewheel.base.archives import record_digest
from freewheel.build import check, sbom
from freewheel.build.static_checks import Expected, extension_modules, static_failures
from tests.unit.sbommaker import EXTENSION, MEMBERS, TARGET, make_contents
from tests.unit.wheelmaker import LINUX_TAG, make_wheel

VERSION = "1.0+ft.1"
INFO = f"speedy-{VERSION}.dist-info"
SBOM = sbom.make(make_contents())
LICENCE = f"{INFO}/licenses/LICENSE"


def wheel(
    directory: Path,
    *,
    tag: str = LINUX_TAG,
    members: dict[str, bytes | str] | None = None,
    metadata: dict[str, str | list[str] | None] | None = None,
) -> Path:
    """A wheel that passes, but for what the arguments change."""
    told = {f"{INFO}/{sbom.MEMBER}": SBOM, LICENCE: "Do as you like."}
    return make_wheel(
        directory,
        "speedy",
        VERSION,
        tag=tag,
        members={**(MEMBERS if members is None else members), **told},
        metadata={"License-File": "LICENSE", **(metadata or {})},
    )


def codes(
    path: Path,
    *,
    project: str = "speedy",
    version: str = VERSION,
    pure: bool = False,
    grafts: tuple[str, ...] = (),
) -> list[str]:
    expected = Expected(
        project=project,
        version=version,
        target=TARGET,
        import_name="speedy",
        pure=pure,
        grafts=grafts,
    )
    failures = static_failures(path, expected)
    return sorted({failure.code for failure in failures})


def rewrite(path: Path, changes: dict[str, bytes], *, keep_record: bool = True) -> Path:
    """The wheel with members replaced or added, its RECORD left as it was."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members |= changes
    if not keep_record:
        rows = [
            f"{name},{record_digest(content)},{len(content)}" for name, content in members.items()
        ]
        name = next(name for name in members if name.endswith("/RECORD"))
        members[name] = "\n".join([*(row for row in rows if name not in row), f"{name},,"]).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_sound_wheel_passes(tmp_path: Path) -> None:
    assert codes(wheel(tmp_path)) == []


def test_a_wheel_with_two_platform_tags_passes(tmp_path: Path) -> None:
    tag = "cp314-cp314t-manylinux1_x86_64.manylinux_2_5_x86_64"

    assert codes(wheel(tmp_path, tag=tag)) == []


@pytest.mark.parametrize(("project", "version"), [("other", VERSION), ("speedy", "1.0+ft.2")])
def test_another_name_or_version_than_expected(tmp_path: Path, project: str, version: str) -> None:
    path = wheel(tmp_path)

    assert codes(path, project=project, version=version) == ["FW101", "FW102", "FW108"]


def test_a_pure_wheel_is_for_any_platform_and_has_no_extension(tmp_path: Path) -> None:
    members: dict[str, bytes | str] = {"speedy/__init__.py": ""}
    path = wheel(tmp_path, tag="py3-none-any", members=members)

    assert codes(path, pure=True) == []
    assert codes(path) == ["FW104", "FW107"]
    assert codes(wheel(tmp_path), pure=True) == ["FW104", "FW107"]


def test_what_is_grafted_is_named_and_what_is_named_is_grafted(tmp_path: Path) -> None:
    members = {**MEMBERS, "speedy.libs/libpq-0a1b2c3d.so.5.15": b"\x7fELF"}
    path = wheel(tmp_path, members=members)

    assert codes(path) == ["FW106"]
    assert codes(path, grafts=("libpq.so.5",)) == []
    assert codes(path, grafts=("libpq.so.6",)) == ["FW106"]
    members = {**MEMBERS, "speedy.libs/libldap-2-0a1b2c3d.5.so.0.1.8": b"\x7fELF"}
    assert codes(wheel(tmp_path / "other", members=members), grafts=("libldap-2.5.so.0",)) == []
    assert codes(path, grafts=("libpq.so",)) == []
    assert codes(path, grafts=("libcrypto.so.3", "libpq.so.5")) == ["FW106"]
    assert codes(wheel(tmp_path), grafts=("libpq.so.5",)) == ["FW106"]


def test_a_file_name_that_is_none(tmp_path: Path) -> None:
    path = wheel(tmp_path)

    assert codes(path.rename(tmp_path / "speedy.whl")) == ["FW101"]


@pytest.mark.parametrize("field", ["Name", "Version"])
def test_metadata_that_disagrees(tmp_path: Path, field: str) -> None:
    path = wheel(tmp_path, metadata={field: "9.9"})

    assert codes(path) == ["FW102"]


def test_tags_that_disagree_with_the_file_name(tmp_path: Path) -> None:
    path = wheel(tmp_path)
    text = b"Wheel-Version: 1.0\nTag: cp314-cp314t-linux_x86_64\n"
    rewrite(path, {f"speedy-{VERSION}.dist-info/WHEEL": text}, keep_record=False)

    assert codes(path) == ["FW103"]


@pytest.mark.parametrize(
    "tag",
    [
        "cp314-cp314-manylinux_2_17_x86_64",
        "cp313-cp313t-manylinux_2_17_x86_64",
        "cp314-cp314t-linux_x86_64",
        "cp314-cp314t-manylinux_2_17_aarch64",
        "cp314-cp314t-musllinux_1_2_x86_64",
    ],
)
def test_tags_that_are_not_the_targets(tmp_path: Path, tag: str) -> None:
    assert codes(wheel(tmp_path, tag=tag)) == ["FW104"]


def test_changed_bytes(tmp_path: Path) -> None:
    path = wheel(tmp_path)

    assert codes(rewrite(path, {EXTENSION: b"\x7fELF, but not that"})) == ["FW105"]


def test_a_file_that_record_does_not_list(tmp_path: Path) -> None:
    path = wheel(tmp_path)

    assert codes(rewrite(path, {"speedy/extra.py": b""})) == ["FW105"]


def test_a_truncated_wheel(tmp_path: Path) -> None:
    path = wheel(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])

    assert codes(path) == ["FW105"]


def test_a_grafted_library(tmp_path: Path) -> None:
    members = {**MEMBERS, "speedy.libs/libfast-1a2b3c4d.so.1": b"\x7fELF"}

    assert codes(wheel(tmp_path, members=members)) == ["FW106"]


@pytest.mark.parametrize(
    "name",
    [
        "core.cpython-314-x86_64-linux-gnu.so",
        "core.abi3.so",
        "core.cpython-313t-x86_64-linux-gnu.so",
    ],
)
def test_an_extension_for_another_abi(tmp_path: Path, name: str) -> None:
    members: dict[str, bytes | str] = {"speedy/__init__.py": "", f"speedy/{name}": b"\x7fELF"}

    assert codes(wheel(tmp_path, members=members)) == ["FW107"]


def test_no_extension_at_all(tmp_path: Path) -> None:
    members: dict[str, bytes | str] = {"speedy/__init__.py": ""}

    assert codes(wheel(tmp_path, members=members)) == ["FW107"]


def without(path: Path, member: str) -> Path:
    """The wheel without a member, its RECORD right."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if name != member}
    path.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return rewrite(path, {}, keep_record=False)


def test_a_patched_wheel_without_an_sbom(tmp_path: Path) -> None:
    assert codes(without(wheel(tmp_path), f"{INFO}/{sbom.MEMBER}")) == ["FW108"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        SBOM.replace('"specVersion": "1.7"', '"specVersion": "9.9"'),
        SBOM.replace('"version": "1.0+ft.1"', '"version": "1.0+ft.2"'),
    ],
)
def test_an_sbom_that_is_not_valid_or_not_this_wheels(tmp_path: Path, text: str) -> None:
    path = rewrite(wheel(tmp_path), {f"{INFO}/{sbom.MEMBER}": text.encode()}, keep_record=False)

    assert codes(path) == ["FW108"]


def test_a_baseline_needs_no_sbom(tmp_path: Path) -> None:
    licence = {"speedy-1.0.dist-info/licenses/LICENSE": "Do as you like."}
    metadata = {"License-File": "LICENSE"}
    path = make_wheel(tmp_path, "speedy", "1.0", members={**MEMBERS, **licence}, metadata=metadata)

    assert codes(path, version="1.0") == []


def test_a_licence_file_that_is_not_there(tmp_path: Path) -> None:
    assert codes(without(wheel(tmp_path), LICENCE)) == ["FW109"]


def test_one_of_two_licence_files_is_not_there(tmp_path: Path) -> None:
    metadata: dict[str, str | list[str] | None] = {"License-File": ["LICENSE", "vendor/LICENSE"]}

    assert codes(wheel(tmp_path, metadata=metadata)) == ["FW109"]


def test_no_licence_file_is_listed(tmp_path: Path) -> None:
    assert codes(wheel(tmp_path, metadata={"License-File": None})) == ["FW109"]


def test_a_damaged_member(tmp_path: Path) -> None:
    path = wheel(tmp_path)
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo(f"{INFO}/{sbom.MEMBER}").header_offset + 100
    content = bytearray(path.read_bytes())
    content[start : start + 40] = bytes(40)
    path.write_bytes(content)

    assert codes(path) == ["FW105"]


def test_failures_are_gathered(tmp_path: Path) -> None:
    path = wheel(
        tmp_path,
        tag=LINUX_TAG.replace("314t", "314"),
        members={**MEMBERS, "speedy.libs/libfast.so.1": b""},
        metadata={"Version": "1.0"},
    )

    assert codes(path) == ["FW102", "FW104", "FW106"]


def test_extension_modules_are_found_by_their_dotted_names(tmp_path: Path) -> None:
    members = {**MEMBERS, "_top.cpython-314t-x86_64-linux-gnu.so": b""}

    assert extension_modules(wheel(tmp_path, members=members)) == [
        "_top",
        "speedy.core",
    ]


def test_a_recalled_wheel_has_the_bytes_that_were_verified(tmp_path: Path) -> None:
    path = wheel(tmp_path)
    digest = files.sha256(path)

    found = check.recall(path, project="speedy", version=VERSION, sha256=digest)
    assert found is not None
    assert found.sha256 == digest
    path.write_bytes(b"other")
    assert check.recall(path, project="speedy", version=VERSION, sha256=digest) is None
