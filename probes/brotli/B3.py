# /// script
# requires-python = ">=3.14"
# dependencies = ["brotli==1.2.1"]
#
# [tool.freewheel.probe]
# defect = "B3"
# title = "a call from within a call gets into the encoder or decoder"
# releases = "<=1.2.1"
# use = "misuse"
# passes = "the inner call says: concurrent access; the outer one goes on as if there were none"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""B3: a call from within a call gets into the encoder or decoder.

Use:        the argument of process() has a __buffer__() that comes back to the same object. With
            the GIL and without.
Symptom:    the outer call fails, or its data is lost, though the inner one was accepted.
Cause:      process() looks at the flag that is to keep others out before it asks its argument
            for a buffer, sets it after that, and does not look again.

Shows:      __buffer__() calls each method. All have to be refused, and to leave the object as it
            was. An argument that is no buffer, and one whose __buffer__() fails, are refused with
            TypeError, after which the object works.
"""

import sys

import brotli

WRONG_ANSWER = 3  # docs/probes.md
DATA = b"some text, and then some more of it; " * 100


class Comes:
    """Bytes that come back before they are there."""

    def __init__(self, data, *calls):
        self.data, self.calls, self.outcomes = data, calls, []

    def __buffer__(self, flags):
        for call in self.calls:
            try:
                call()
            except brotli.error as error:
                self.outcomes.append(str(error))
            else:
                self.outcomes.append("accepted")
        return memoryview(self.data)


class Fails:
    def __buffer__(self, flags):
        raise ValueError("no bytes today")


def end(text):
    print(f"B3: {text}")
    sys.exit(WRONG_ANSWER)


def check(what, outcomes):
    if not all("concurrent access" in outcome for outcome in outcomes):
        end(f"{what}: inner calls: {outcomes}")


def refused(function, argument):
    try:
        function(argument)
    except TypeError:
        return
    end(f"{argument!r} is accepted")


def main():
    compressor = brotli.Compressor(quality=5)
    argument = Comes(
        DATA,
        lambda: compressor.process(DATA),
        compressor.flush,
        compressor.finish,
        lambda: compressor.__init__(quality=1),
    )
    try:
        parts = [compressor.process(argument)]
        check("compressing", argument.outcomes)
        for bad in (None, "text", Fails(), memoryview(DATA)[::2]):
            refused(compressor.process, bad)
        parts += [compressor.process(DATA), compressor.finish()]
    except brotli.error as error:
        end(f"compressing: {error}")
    if brotli.decompress(b"".join(parts)) != DATA * 2:
        end("compressing: other data")

    decompressor = brotli.Decompressor()
    stream = brotli.compress(DATA)
    argument = Comes(
        stream[:20],
        lambda: decompressor.process(stream),
        decompressor.is_finished,
        decompressor.can_accept_more_data,
        decompressor.__init__,
    )
    try:
        parts = [decompressor.process(argument)]
        check("decompressing", argument.outcomes)
        for bad in (None, "text", Fails(), memoryview(DATA)[::2]):
            refused(decompressor.process, bad)
        parts.append(decompressor.process(stream[20:]))
    except brotli.error as error:
        end(f"decompressing: {error}")
    if b"".join(parts) != DATA or not decompressor.is_finished():
        end("decompressing: other data")
    print("B3: inner calls are refused")


if __name__ == "__main__":
    main()
