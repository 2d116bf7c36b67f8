# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z9"
# title = "leaving a reader frees what a read() in another thread goes on using"
# releases = "<=0.25.0"
# use = "misuse"
# passes = "the read() raises, or returns what it has"
# fails-by = ["crash", "wrong answer", "exception", "hang"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""Z9: leaving a reader frees what a read() in another thread goes on using.

Use:        one thread leaves "with reader:" while another one is in read(), which waits for its
            source: how a connection that is closed by one thread ends for the other. With the GIL
            and without.
Symptom:    a crash.
Cause:      __exit__() drops the source and the (de)compressor.

Shows:      the source makes the reader wait until the other thread has left. close() itself is not
            kept out: it is what ends a read() that waits.
"""

import io
import sys
import threading

import zstandard

WRONG_ANSWER = 3  # docs/probes.md
DATA = b"".join(b"%d, " % (at * 7919 % 100_003) for at in range(60_000))
FRAME = zstandard.ZstdCompressor().compress(DATA)


class Source:
    """A source whose second read() waits until it may go on."""

    def __init__(self, content):
        self.file, self.calls, self.closed = io.BytesIO(content), 0, False
        self.inside, self.go_on = threading.Event(), threading.Event()

    def read(self, size=-1):
        self.calls += 1
        if self.calls == 2:
            self.inside.set()
            self.go_on.wait(10)
        return self.file.read(1000)

    def close(self):
        self.closed = True
        self.go_on.set()


def meet(maker, content, check):
    source, answers = Source(content), []
    reader = maker.stream_reader(source, read_size=1000)

    def read():
        try:
            answers.append(reader.read(200_000))
        except (zstandard.ZstdError, ValueError) as error:
            answers.append(error)

    thread = threading.Thread(target=read)
    with reader:
        thread.start()
        source.inside.wait(10)
    thread.join()
    if not source.closed:
        return "the source has not been closed"
    (answer,) = answers
    if isinstance(answer, bytes) and not DATA.startswith(check(answer)):
        return "not what is in the data"
    try:
        reader.read(1)
    except ValueError:
        return None
    return "a closed reader reads"


def read(frame):
    return zstandard.ZstdDecompressor().decompressobj().decompress(frame)


def main():
    problems = [
        meet(zstandard.ZstdDecompressor(), FRAME, bytes),
        meet(zstandard.ZstdCompressor(), DATA, read),
    ]
    print(f"Z9: {list(filter(None, problems)) or 'both read() end'}")
    return WRONG_ANSWER if any(problems) else 0


if __name__ == "__main__":
    sys.exit(main())
