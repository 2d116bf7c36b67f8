# /// script
# requires-python = ">=3.14"
# dependencies = ["zstandard==0.25.0"]
#
# [tool.freewheel.probe]
# defect = "Z12"
# title = "write() to a closed writer keeps its argument exported"
# releases = "<=0.25.0"
# use = "supported"
# passes = "ValueError, and the bytearray can be resized"
# fails-by = ["leak"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""Z12: write() to a closed writer keeps its argument exported.

Use:        write() to a writer that has been closed. With the GIL and without.
Symptom:    BufferError: Existing exports of data: object cannot be re-sized, whenever the
            bytearray is used again.
Cause:      the argument's buffer is taken before the writer looks whether it is closed, and not
            released if it is.

Shows:      a bytearray is written to closed writers, and resized.
"""

import io
import sys

import zstandard

LEAK, NOT_RUN = 4, 77  # docs/probes.md


def main():
    for maker in (zstandard.ZstdCompressor(), zstandard.ZstdDecompressor()):
        writer = maker.stream_writer(io.BytesIO())
        writer.close()
        data = bytearray(b"some text")
        try:
            writer.write(data)
        except ValueError:
            pass
        else:
            print("Z12: a closed writer writes")
            return NOT_RUN
        try:
            data.append(0)
        except BufferError as error:
            print(f"Z12: {type(writer).__name__}: {error}")
            return LEAK
    print("Z12: the bytearray can be resized")
    return 0


if __name__ == "__main__":
    sys.exit(main())
