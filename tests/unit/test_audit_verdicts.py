"""From what was seen to a verdict: cause and victim, smoke, defects, certificates, exit codes."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import click
import jsonschema  # type: ignore[import-untyped]  # has no types; comes with cyclonedx
import pytest

from freewheel.audit import auditing, examining, ours, outcome, page, table
from freewheel.audit.choosing import Candidate, Choice
from freewheel.audit.declared import Declared, find_workspace
from freewheel.audit.downloads import Failure
from freewheel.audit.examining import Examined
from freewheel.audit.extensions import find as find_extensions
from freewheel.audit.inputs.locked import Installed, Locked, Selection
from freewheel.audit.target import Target, wheel_name
from freewheel.audit.verdicts import Finding, Seen, Verdict, find
from freewheel.base.workspace import Workspace
from freewheel.commands.audit import threshold
from freewheel.proof import certificate
from freewheel.proof.make_certificate import issue
from freewheel.recipe.recipe import load_recipes
from tests.unit.proofmaker import make_evidence
from tests.unit.test_audit_inputs import make_environment
from tests.unit.wheelmaker import make_wheel

LINUX = Target("cp314t", "manylinux_x86_64")
GOOD: dict[str, Any] = {"outcome": "imported"}
TESTS: list[dict[str, Any]] = [
    {"test": test, "modules": 1, "failures": []} for test in ("threads", "re-import", "exit")
]


def turned_on(module: str) -> dict[str, Any]:
    return {"outcome": "imported", "culprit": {"module": module, "path": "/a/b.so"}}


def make_choice(locked: Locked, fields: dict[str, Any]) -> Choice:
    return Choice(locked=locked, version=locked.version, **fields)


def see(
    modules: dict[str, dict[str, Any]] | None = None,
    *,
    name: str = "spam",
    version: str = "1.0",
    tag: str = "cp314-cp314t-manylinux_2_17_x86_64",
    smoke: list[dict[str, Any]] | None = None,
    owners: dict[str, str] | None = None,
    **choice: object,
) -> Finding:
    """The finding for a wheel whose modules behave like this; None: it was not imported."""
    parsed = wheel_name(f"{name}-{version}-{tag}.whl")
    assert parsed
    wheel = Candidate(name=parsed, sha256="0" * 64, urls=())
    locked = Locked(name=name, version=version, origin="uv.lock")
    extensions = find_extensions(
        Path(), [f"{m.replace('.', '/')}.cpython-314t-x.so" for m in modules or {}], "cp314t"
    )
    seen = Seen(
        choice=make_choice(locked, {"wheel": wheel, **choice}),
        extensions=extensions if modules is not None else None,
        examined=Examined.model_validate(
            {"digest": "0", "modules": modules, "smoke": TESTS if smoke is None else smoke}
        )
        if modules
        else None,
        trouble=None if modules is not None else Failure(reason="no network", remedy="get one"),
        certified="",
        uncertified="",
        owners=owners or {},
    )
    return find(seen, Declared(find_workspace(), LINUX))


def test_each_kind_of_wheel_has_its_verdict() -> None:
    gil = {"spam._core": turned_on("spam._core")}

    assert see({"spam._core": GOOD}).verdict is Verdict.UNPROVEN
    assert see(gil).verdict is Verdict.GIL
    assert see(gil).culprits == ["spam._core"]
    assert see(None).verdict is Verdict.NOT_IMPORTED
    assert see({}, tag="py3-none-any").verdict is Verdict.PURE
    assert see({}, tag="py3-none-any", compiled_for=("cp314",)).verdict is Verdict.FALLBACK
    assert see({"spam._core": GOOD}, wheel=None, others=("spam-1.0.tar.gz",)).verdict is (
        Verdict.NO_WHEEL
    )


def test_who_only_imports_the_culprit_is_a_victim() -> None:
    victim = {"spam._core": {**turned_on("eggs._eggs"), "without": GOOD}}

    found = see(victim, owners={"eggs._eggs": "eggs 2.0"})

    assert found.verdict is Verdict.UNPROVEN
    assert found.culprits == []
    assert "imports eggs._eggs of eggs 2.0, which turns the GIL on" in found.evidence[0]


def test_a_victim_that_turns_it_on_itself_too_is_a_culprit() -> None:
    both = {"spam._core": {**turned_on("eggs._eggs"), "without": turned_on("spam._core")}}

    assert see(both).culprits == ["spam._core"]
    assert see(both).verdict is Verdict.GIL


def test_what_cannot_be_told_for_the_culprit_is_said() -> None:
    needs = {"outcome": "not imported", "why": "ImportError: no eggs"}
    unclear = {"spam._core": {**turned_on("eggs._eggs"), "without": needs}}

    assert "is not known" in see(unclear).evidence[0]


def test_a_module_that_was_not_imported_is_never_called_fine() -> None:
    missing = {"outcome": "not imported", "why": "ModuleNotFoundError: No module named 'psutil'"}
    crashed = {"outcome": "crashed", "ending": "SIGSEGV"}

    alone = see({"spam._core": missing})
    partly = see({"spam._core": GOOD, "spam._more": missing})
    broken = see({"spam._core": GOOD, "spam._more": crashed})

    assert alone.verdict is Verdict.NOT_IMPORTED
    assert "psutil" in alone.evidence[0]
    assert (partly.modules.own, partly.modules.own_imported) == (2, 1)
    assert "not imported: spam._more: ModuleNotFoundError" in partly.evidence[0]
    assert broken.verdict is Verdict.NOT_IMPORTED
    assert "SIGSEGV" in broken.evidence[0]


def test_modules_of_tests_and_plugins_count_apart() -> None:
    found = see({"spam._core": GOOD, "spam.tests._helper": turned_on("spam.tests._helper")})

    assert found.verdict is Verdict.UNPROVEN
    assert found.culprits == ["spam.tests._helper"]
    assert (found.modules.own, found.modules.apart) == (1, 1)


def test_a_failed_smoke_test_is_reported_with_its_counts() -> None:
    failure = {"modules": ["spam._core"], "runs": 3, "failed": 3, "ending": "SIGSEGV", "said": ""}
    smoke = [{"test": "re-import", "modules": 1, "failures": [failure]}]

    found = see({"spam._core": GOOD}, smoke=smoke)

    assert found.smoke == ["fails smoke: re-import of spam._core, SIGSEGV 3 of 3"]
    assert found.verdict is Verdict.UNPROVEN
    assert "new-recipe spam 1.0" in found.advice


def test_advice_is_the_nearest_way_out() -> None:
    without: dict[str, Any] = {"wheel": None, "others": ("spam-1.0.tar.gz",)}

    assert see({}, newer="1.4", **without).advice == "raise to spam 1.4, which has a wheel"
    assert "new-recipe spam 1.0" in see({}, **without).advice


def test_known_defects_and_our_wheel_are_those_of_recipes_and_probes() -> None:
    workspace = find_workspace()
    (recipe,) = [
        r for r in load_recipes(workspace.recipes, workspace.patches) if r.name == "asyncpg"
    ]
    release = recipe.releases[-1]

    found = see({"asyncpg.protocol": GOOD}, name="asyncpg", version=release.version)

    assert found.verdict is Verdict.DEFECTS
    assert {defect.fixed_in for defect in found.defects} == {release.local_version}
    assert found.install == f"asyncpg=={release.local_version}"
    ancient = see({"asyncpg.protocol": GOOD}, name="asyncpg", version="0.1.0")
    assert ancient.install.startswith("asyncpg==")
    assert ancient.advice.startswith("raise to")


# ------------------------------------------------------------------------------- our own wheels


@pytest.fixture
def proven(tmp_path: Path) -> Workspace:
    """A checkout whose one wheel, demo 1.0+ft.1, is certified."""
    evidence = make_evidence(tmp_path)
    certificate.write(evidence.patched.path, issue(evidence))
    return Workspace(root=tmp_path, cache=tmp_path / "cache", data=tmp_path / "data")


def installed(tmp_path: Path, wheel: Path) -> Choice:
    environment = make_environment(tmp_path / "app", wheel)
    settings = auditing.Settings(target=LINUX, selection=Selection())
    (given,) = auditing.read_all([environment], settings).givens
    (entry,) = given.distributions
    return Choice(locked=entry, version=entry.version)


def test_an_installed_wheel_of_ours_is_proven_by_its_bytes(
    tmp_path: Path, proven: Workspace
) -> None:
    (wheel,) = proven.wheels.glob("*+ft.1-*.whl")

    told, why_not = ours.certified(installed(tmp_path, wheel), proven)

    assert "certificate of 2026-11-25: 1 defects shown to be fixed (D1)" in told
    assert why_not == ""


def test_a_changed_or_foreign_wheel_of_that_name_is_not_proven(
    tmp_path: Path, proven: Workspace
) -> None:
    (wheel,) = proven.wheels.glob("*+ft.1-*.whl")
    choice = installed(tmp_path, wheel)
    assert choice.locked.installed
    (choice.locked.installed.root / "demo" / "__init__.py").write_text("changed = True\n")
    foreign = make_wheel(
        tmp_path / "foreign", "demo", "1.0+ft.1", members={"demo/__init__.py": "other = 1\n"}
    )

    changed = ours.certified(choice, proven)
    other = ours.certified(installed(tmp_path / "second", foreign), proven)

    assert changed[0] == ""
    assert "was changed after it was installed" in changed[1]
    assert other[0] == ""
    assert "is not the one in the certified" in other[1]


def test_headers_are_found_where_an_installer_puts_them(tmp_path: Path) -> None:
    content = b"int spam;\n"
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    header = tmp_path / "include" / "spam.h"
    header.parent.mkdir()
    header.write_bytes(content)
    root = tmp_path / "site-packages"
    root.mkdir()
    placed = Installed(
        root=root,
        tags=(),
        extensions=(),
        record={"../include/spam.h": f"sha256={digest}"},
        digest="",
    )
    listed = {"spam-1.0.data/headers/spam.h": f"sha256={digest}"}

    assert ours.why_changed(placed, listed, "spam.whl") == ""
    header.write_bytes(b"int eggs;\n")
    assert "was changed" in ours.why_changed(placed, listed, "spam.whl")
    assert "is not the one" in ours.why_changed(
        placed, {"spam-1.0.data/headers/other.h": "sha256=0"}, "spam.whl"
    )


def test_a_wheel_of_ours_without_its_certificate_is_not_proven(
    tmp_path: Path, proven: Workspace
) -> None:
    (wheel,) = proven.wheels.glob("*+ft.1-*.whl")
    certificate.path_of(wheel).unlink()

    told, why_not = ours.certified(installed(tmp_path, wheel), proven)

    assert told == ""
    assert "no certificate" in why_not


# ------------------------------------------------------------------------------ the whole audit


def make_audit(**verdicts: Verdict) -> outcome.Audit:
    findings = [
        Finding(name=name, version="1.0", verdict=verdict, origin="uv.lock", advice="do <this>")
        for name, verdict in verdicts.items()
    ]
    return outcome.make("cp314t-manylinux_x86_64", [], findings)


def failing(
    audit: outcome.Audit, threshold: Verdict | None = None, earlier: outcome.Audit | None = None
) -> str:
    return " ".join(finding.name for finding in outcome.failing(audit, threshold, earlier))


def test_what_fails_is_the_gil_and_a_missing_wheel_unless_more_is_asked_for() -> None:
    audit = make_audit(a=Verdict.UNPROVEN, b=Verdict.GIL, c=Verdict.NO_WHEEL, d=Verdict.DEFECTS)

    assert failing(audit) == "c b"
    assert failing(audit, Verdict.NO_WHEEL) == "c"
    assert failing(audit, Verdict.DEFECTS) == "c b d"


def test_a_baseline_leaves_what_is_new_or_worse() -> None:
    earlier = make_audit(a=Verdict.GIL, b=Verdict.UNPROVEN, c=Verdict.NO_WHEEL)
    now = make_audit(a=Verdict.NO_WHEEL, b=Verdict.GIL, c=Verdict.GIL, d=Verdict.GIL)

    assert failing(now, None, earlier) == "a b d"
    assert failing(earlier, None, earlier) == ""


def test_the_json_fits_its_schema_and_is_read_again(tmp_path: Path) -> None:
    audit = make_audit(a=Verdict.GIL, b=Verdict.PURE)
    written = tmp_path / "audit.json"
    written.write_text(outcome.to_json(audit))

    jsonschema.validate(json.loads(written.read_text()), outcome.schema())
    assert outcome.read(written) == audit


def test_the_page_and_the_summary_have_all_and_escape_it() -> None:
    audit = make_audit(a=Verdict.GIL, b=Verdict.PROVEN, c=Verdict.PURE)

    text = page.render(audit)
    summary = table.markdown(audit, outcome.failing(audit, None, None))

    assert "do &lt;this&gt;" in text
    assert "do <this>" not in text
    assert all(f'id="{v.slug}"' in text for v in (Verdict.GIL, Verdict.PROVEN, Verdict.PURE))
    assert "http" not in text.replace("http://www.w3.org", "")
    assert "| **a 1.0** | turns the GIL on |" in summary
    assert "| b" not in summary


# --------------------------------------------------------------------------------------- modules


def test_extension_modules_are_those_of_the_interpreter(tmp_path: Path) -> None:
    files = {
        "spam/_core.cpython-314t-x86_64-linux-gnu.so": b"",
        "spam/_other.cpython-314-x86_64-linux-gnu.so": b"",
        "spam/_plain.so": b"...PyInit__plain...",
        "spam/libhelper.so": b"no module",
        "spam/sub/__init__.cpython-314t-darwin.so": b"",
        "spam.libs/libz-1234.so": b"PyInit_",
        "spam/tests/_tests.cp314t-win_amd64.pyd": b"",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)

    found = find_extensions(tmp_path, files, "cp314t")

    assert {(extension.module, extension.kind) for extension in found} == {
        ("spam._core", "own"),
        ("spam._plain", "own"),
        ("spam.sub", "own"),
        ("spam.tests._tests", "tests"),
    }


def test_results_are_kept_by_wheel_modules_needs_and_interpreter() -> None:
    one = examining.Specimen(
        name="spam 1.0", digest="a", modules=("spam._core",), paths=(), needs=("b",)
    )
    keys = {
        examining.subject(one, "image cp314t").key,
        examining.subject(one, "image cp315t").key,
        examining.subject(
            examining.Specimen(
                name="spam 1.0", digest="c", modules=one.modules, paths=(), needs=("b",)
            ),
            "image cp314t",
        ).key,
        examining.subject(
            examining.Specimen(
                name="spam 1.0", digest="a", modules=one.modules, paths=(), needs=()
            ),
            "image cp314t",
        ).key,
    }

    assert len(keys) == 4


@pytest.mark.parametrize(
    ("word", "verdict"),
    [("gil", Verdict.GIL), ("known defects", Verdict.DEFECTS), ("no-wheel", Verdict.NO_WHEEL)],
)
def test_a_threshold_may_be_said_in_words_or_in_part(word: str, verdict: Verdict) -> None:
    assert threshold(word) is verdict
    with pytest.raises(click.BadParameter):
        threshold("p")
