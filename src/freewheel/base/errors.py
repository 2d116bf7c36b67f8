"""The one error tree: a class for what somebody catches, or a script must tell apart.

Every message says what is wrong and ends with what to do next. A stage gathers all its problems
before it raises, so that one run shows everything there is to fix.
docs/exit-codes.md lists the codes.
"""

from __future__ import annotations

from collections.abc import Sequence


class FreewheelError(Exception):
    """Root of all errors that a user is meant to read.

    ``problems`` are listed one a line under ``summary``; ``hint`` is the next thing to do;
    ``output`` is what a failed child process printed, to be replayed above the message.
    """

    exit_code = 1

    def __init__(
        self, summary: str, *, problems: Sequence[str] = (), hint: str = "", output: str = ""
    ) -> None:
        super().__init__(summary)
        self.summary = summary
        self.problems = tuple(problems)
        self.hint = hint
        self.output = output

    def __str__(self) -> str:
        lines = [self.summary]
        lines += [f"  - {problem}" for problem in self.problems]
        if self.hint:
            lines.append(f"Next: {self.hint}")
        return "\n".join(lines)


class RecipeError(FreewheelError):
    """A recipe, or the patch directory it describes, is not valid."""

    exit_code = 10


class FetchError(FreewheelError):
    """An archive could not be downloaded, or is not the one that was asked for."""

    exit_code = 11


class PatchError(FreewheelError):
    """A patch does not apply, is already upstream, or did not change what it names."""

    exit_code = 12


class MachineError(FreewheelError):
    """The machine has no engine, builder image, interpreter or server that works."""

    exit_code = 14


class BuildError(FreewheelError):
    """The patched tree did not become an sdist, or the sdist a wheel that says what is in it."""

    exit_code = 16


class VerifyError(FreewheelError):
    """A file is not a wheel that can be read, or it failed a check; a build stays in quarantine."""

    exit_code = 17


class PackageIndexError(FreewheelError):
    """The private index refused, or would lose, something."""

    exit_code = 18


class PublishError(FreewheelError):
    """An upload was refused, or what came back is not what was sent."""

    exit_code = 19


class KnownGoodError(FreewheelError):
    """A wheel is not the one that is known to come of its inputs."""

    exit_code = 24


class AttestationError(FreewheelError):
    """An attestation cannot be made, or does not hold."""

    exit_code = 25


class UpstreamError(FreewheelError):
    """What upstream published cannot be read, or the patches cannot be carried over to it."""

    exit_code = 32


class BusyError(FreewheelError):
    """Another Freewheel process holds the lock that this one needs."""

    exit_code = 21


class ReproduceError(FreewheelError):
    """A wheel did not come out the same again, or could not be built a second time."""

    exit_code = 23


class ProbeError(FreewheelError):
    """A program in ``probes/``, or what it says of itself, is not valid."""

    exit_code = 40


class ProofError(FreewheelError):
    """A wheel could not be tested by a proof."""

    exit_code = 41


class UnprovenError(FreewheelError):
    """A wheel failed its proof, or a patch was not needed."""

    exit_code = 42


class CertificateError(FreewheelError):
    """A certificate is absent, cannot be read, or is not for this wheel."""

    exit_code = 43


class AuditError(FreewheelError):
    """What was to be audited cannot be read, or not for the target that was asked for."""

    exit_code = 44


class AuditIncompleteError(FreewheelError):
    """The audit could not look at everything, so it does not say that all is well."""

    exit_code = 45


class CommandFailed(FreewheelError):  # noqa: N818  reads as what happened
    """A child process failed; carries what it printed.

    Stages catch this and raise their own kind; it reaches the user only where no stage did.
    """

    exit_code = 30

    def __init__(self, argv: Sequence[str], returncode: int, output: str, *, log: str = "") -> None:
        self.argv = tuple(argv)
        self.returncode = returncode
        self.log = log
        outcome = (
            f"was ended by signal {-returncode}" if returncode < 0 else f"exited with {returncode}"
        )
        super().__init__(
            f"{argv[0]} {outcome}",
            problems=[f"command: {' '.join(argv)}"],
            hint=f"read the log at {log}" if log else "read the output above",
            output=output,
        )
