# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z4"
# title = "precompute_compress() frees the form that compressors refer to"
# releases = "<=0.25.0"
# use = "supported"
# passes = "a compressor goes on with what it was set up with; each frame can be read"
# fails-by = ["wrong answer", "crash", "hang", "exception"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""Z4: precompute_compress() frees the form that compressors refer to.

Use:        precompute_compress() of a dictionary, while a compressor that was made after an
            earlier call lives: say each thread prepares the dictionary for itself. No thread is
            needed. With the GIL and without.
Symptom:    frames that cannot be read, a crash.
Cause:      the form that the earlier call has made is freed, and the context of the compressor
            refers to it.

Shows:      a dictionary is prepared again, its memory used for others, and the compressor used,
            also for multi_compress_to_buffer(). Then two threads do so with one dictionary.
"""

import concurrent.futures
import sys
import threading

import zstandard

WRONG_ANSWER = 3  # docs/probes.md
SAMPLES = [
    b"user %d likes item %d and item %d" % (n, n * 7 % 100, n * 13 % 100) for n in range(4000)
]
RAW = zstandard.train_dictionary(16384, SAMPLES).as_bytes()
DATA = b"".join(SAMPLES[7:400:3])
ROUNDS = 30


def end(text):
    print(f"Z4: {text}")
    sys.exit(WRONG_ANSWER)


def prepared(content):
    dictionary = zstandard.ZstdCompressionDict(content)
    dictionary.precompute_compress(level=3)
    return dictionary


def check(what, frame):
    reader = zstandard.ZstdDecompressor(dict_data=zstandard.ZstdCompressionDict(RAW))
    try:
        got = reader.decompress(frame)
    except zstandard.ZstdError as error:
        end(f"{what}: {error}")
    if got != DATA:
        end(f"{what}: other data")


def share(dictionary, start):
    start.wait()
    for turn in range(ROUNDS):
        dictionary.precompute_compress(level=(1, 3, 6)[turn % 3])
        compressor = zstandard.ZstdCompressor(level=3, dict_data=dictionary)
        check("two threads", compressor.compress(DATA))


def main():
    dictionary = prepared(RAW)
    compressor = zstandard.ZstdCompressor(level=3, dict_data=dictionary)
    check("before", compressor.compress(DATA))
    dictionary.precompute_compress(level=22)  # of another size
    junk = [b"".join(SAMPLES[n::37])[: len(RAW)] for n in range(100)]
    others = [prepared(content) for content in junk]  # what has been freed is used again
    check("prepared again", compressor.compress(DATA))
    del dictionary
    check("many", compressor.multi_compress_to_buffer([DATA] * 3)[1].tobytes())
    del others

    start = threading.Barrier(2)
    dictionary = zstandard.ZstdCompressionDict(RAW)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(share, [dictionary] * 2, [start] * 2))
    print("Z4: every frame can be read")


if __name__ == "__main__":
    sys.exit(main())
