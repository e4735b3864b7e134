"""The zygote's start: `python .../isoruntime/zygote/__main__.py FD PARENT`."""

import gc
import sys

# multiprocessing runs this file once more, under another name, in every process that it
# starts by spawn or forkserver; whatever it did to the path there would hide the code.
if __name__ == "__main__":
    # Started by path, Python puts this very folder first in the path, where `server`
    # or `tree` would hide modules of the user's. What belongs there is the folder that
    # holds the package, and only until everything of ours is imported.
    sys.path[0] = __file__.rpartition("/isoruntime/")[0] or "."
    # Nothing that an import makes is worth looking through; `main` turns it on again.
    gc.disable()

    from isoruntime.zygote.server import main

    main(int(sys.argv[1]), int(sys.argv[2]))
