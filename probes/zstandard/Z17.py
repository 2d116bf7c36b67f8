# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z17"
# title = "multi_compress_to_buffer() with threads loses empty inputs at the end"
# releases = "<=0.25.0"
# use = "supported"
# passes = "there is a segment for each input, for any number of threads"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""Z17: multi_compress_to_buffer() with threads loses empty inputs at the end.

Use:        inputs of which the last ones are empty, and threads. With the GIL and without.
Symptom:    fewer segments than inputs.
Cause:      inputs are dealt out by their bytes, and what comes after the last byte goes to nobody.

Shows:      inputs with empty ones among them, compressed by some numbers of threads.
"""

import sys

import zstandard

WRONG_ANSWER = 3  # docs/probes.md
INPUTS = (
    [b"x" * 100, b""],
    [b"x", b"", b""],
    [b"", b"x" * 100],
    [b"a", b"", b"c", b"", b""],
    [b"x" * 1000] * 3 + [b""] * 5,
)


def main():
    compressor, decompressor = zstandard.ZstdCompressor(), zstandard.ZstdDecompressor()
    for inputs in INPUTS:
        for threads in (1, 2, 3, 8):
            frames = compressor.multi_compress_to_buffer(inputs, threads=threads)
            got = [decompressor.decompress(frame.tobytes()) for frame in frames]
            if got != inputs:
                print(f"Z17: {threads} threads: {len(inputs)} inputs, {len(got)} segments")
                return WRONG_ANSWER
    print("Z17: a segment for each input")
    return 0


if __name__ == "__main__":
    sys.exit(main())
