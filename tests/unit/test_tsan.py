"""Which clang is taken, and which packages are asked for."""

from pathlib import Path

import pytest

from freewheel.base.errors import ProofError
from freewheel.machine import debian, tsan


def pretend(directory: Path, *names: str) -> Path:
    directory.mkdir()
    for name in names:
        (directory / name).write_text("#!/bin/sh\nexit 1\n")
        (directory / name).chmod(0o755)
    return directory


def test_the_newest_clang_on_path_comes_first_and_the_unnumbered_last(tmp_path: Path) -> None:
    one = pretend(tmp_path / "one", "clang-9", "clang-19", "clang-format", "clang++-22")
    two = pretend(tmp_path / "two", "clang", "clang-22", "clang-format-22", "clang-tidy")

    found = [path.name for path in tsan._candidates(["", str(one), str(two)])]

    assert found == ["clang-22", "clang-19", "clang-9", "clang"]


def test_a_clang_that_is_not_one_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(pretend(tmp_path / "bin", "clang-22")))
    problems: list[str] = []

    assert tsan.find_clang(problems) is None
    assert len(problems) == 1
    assert "clang-22" in problems[0]


def test_a_clang_whose_runtime_may_fail_at_random_is_too_old(tmp_path: Path) -> None:
    clang = pretend(tmp_path / "bin", "clang-14") / "clang-14"
    clang.write_text("#!/bin/sh\necho 'Debian clang version 14.0.6'\n")

    with pytest.raises(ProofError, match="too old"):
        tsan._tried(clang)


def test_a_clang_that_finds_no_race_is_refused(tmp_path: Path) -> None:
    """One that compiles the race into a program which says nothing."""
    where = pretend(tmp_path / "bin", "clang-22", "clang++-22", "llvm-symbolizer-22")
    (where / "clang-22").write_text(
        "#!/bin/sh\n"
        'case "$1" in\n'
        '  --version) echo "clang version 22.1.8" ;;\n'
        f'  --print-prog-name=*) echo "{where}/llvm-symbolizer-22" ;;\n'
        '  *) for last; do :; done; printf "#!/bin/sh\\n" > "$last"; chmod +x "$last" ;;\n'
        "esac\n"
    )

    with pytest.raises(ProofError, match="finds no race"):
        tsan._tried(where / "clang-22")


def test_the_newest_usable_packages_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    offered = ("clang-14", "clang-9", "clang-19", "clang-22")
    monkeypatch.setattr(debian, "can_install", lambda: False)
    monkeypatch.setattr(
        debian, "distribution", lambda: debian.Distribution(family="debian", suite="x", like=())
    )
    monkeypatch.setattr(debian, "available", lambda _: offered)
    assert tsan._packages() == ("clang-22", "libclang-rt-22-dev", "llvm-22")

    monkeypatch.setattr(debian, "available", lambda _: offered[:2])
    assert tsan._packages() == ()
