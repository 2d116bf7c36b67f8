# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg2==2.9.13"]
#
# [tool.freewheel.probe]
# defect = "Q19"
# title = "importing psycopg2 turns the GIL back on"
# releases = "<=2.9.13"
# use = "supported"
# passes = "the GIL stays off when psycopg2 is imported"
# fails-by = ["wrong answer"]
# runs = { baseline = 15, patched = 9 }
# seconds = 60
# ///
"""Q19: importing psycopg2 turns the GIL back on.

Use:        "import psycopg2" is all it takes.
Symptom:    RuntimeWarning: The global interpreter lock (GIL) has been enabled to load module
            'psycopg2._psycopg', and from then on no two threads of the process run at once.
Cause:      the extension module does not say that it can do without.

Shows:      whether the GIL is on before and after. Needs no server.
"""

import sys

WRONG, NOT_RUN = 3, 77


def main():
    if sys._is_gil_enabled():  # noqa: SLF001  documented, underscore and all
        print("Q19: this needs free-threaded CPython with the GIL off")
        return NOT_RUN
    if sys.flags.gil is not None:
        print("Q19: PYTHON_GIL=0 or -X gil=0 would hide it")
        return NOT_RUN
    import psycopg2

    on = sys._is_gil_enabled()  # noqa: SLF001
    print(
        f"Q19: the GIL is {'on' if on else 'off'} after importing psycopg2 {psycopg2.__version__}"
    )
    return WRONG if on else 0


if __name__ == "__main__":
    sys.exit(main())
