"""The zygote's start: `python .../isoruntime/zygote/__main__.py FD PARENT`."""

import sys

# Started by path, Python puts this very folder first in the path, where `server`
# or `tree` would hide modules of the user's. What belongs there is the folder that
# holds the package, and only until everything of ours is imported.
sys.path[0] = __file__.rpartition("/isoruntime/")[0] or "."

from isoruntime.zygote.server import main  # noqa: E402 - the path comes first

if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
