"""`python -m embedpool_cli` is the `embedpool` command."""

import sys

from embedpool_cli.main import main

if __name__ == "__main__":
    sys.exit(main())
