"""`python -m isoruntime` is the same as the `isoruntime` command."""

import sys

from isoruntime.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
