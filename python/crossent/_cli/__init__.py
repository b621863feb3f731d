"""The command `crossent`: one file for each of its commands, in blocks of rows where files may be larger than memory.

The result alone goes to stdout; notes, the progress bar and errors go to stderr. Exit codes: 0 for a result, 1 for bad
data or a file that could not be written, 2 for bad usage, 130 after Ctrl-C.
"""

from crossent._cli.app import main

__all__ = ["main"]
