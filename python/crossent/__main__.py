"""`python -m crossent` is the command `crossent`."""

import sys

from crossent._cli import main

if __name__ == "__main__":
    sys.exit(main())
