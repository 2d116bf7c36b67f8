# /// script
# requires-python = ">=3.14"
# dependencies = ["httptools==0.9.0"]
#
# [tool.freewheel.probe]
# defect = "HP2"
# title = "llhttp's functions call each other by way of a table that anybody may change"
# releases = "<=0.9.0"
# use = "supported"
# passes = "the compiled modules export nothing but their init functions"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 30
# ///
"""HP2: llhttp's functions call each other by way of a table that anybody may change.

Use:        every application that parses with httptools.
Symptom:    a small request takes a seventh longer than it need.
Cause:      the compiled modules export the functions of llhttp and http-parser. A program could put
            others in their place when the modules are loaded, so calls between them go by the
            procedure linkage table, and the compiler may not put one into another.

Shows:      what the modules export, not the time that it takes. The dynamic linker is asked for
            functions of both libraries, and for the modules' init functions, which it has to find.
"""

import ctypes
import sys

import httptools.parser.parser
import httptools.parser.url_parser

WRONG_ANSWER, NOT_RUN = 3, 77  # docs/probes.md
MODULES = {
    httptools.parser.parser: ["llhttp_init", "llhttp_execute", "llhttp__after_headers_complete"],
    httptools.parser.url_parser: ["http_parser_url_init", "http_parser_parse_url"],
}


def main():
    if sys.platform == "win32":
        print("HP2: Windows exports nothing that is not asked for")
        return NOT_RUN
    exported = []
    for module, functions in MODULES.items():
        library = ctypes.CDLL(module.__file__)
        init = f"PyInit_{module.__name__.rpartition('.')[2]}"
        if not hasattr(library, init):
            raise RuntimeError(f"{module.__name__} does not export {init}")
        exported += [name for name in functions if hasattr(library, name)]
    print("HP2: exported:", *exported or ["nothing"])
    return WRONG_ANSWER if exported else 0


if __name__ == "__main__":
    sys.exit(main())
