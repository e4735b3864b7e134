"""isoruntime invoke: one event through a real worker, or through a running runtime.

The result alone goes to stdout; what the function prints and a summary go to stderr.

    command   words and variables to what is wanted
    fields    `--header` and `--context`, to what `context` is made from
    local     the runtime without its HTTP server, one invocation after another
    target    a runtime or gateway that runs already
    report    what a person or a script is told, and the exit code
"""

from isoruntime.cli.invoke.command import main

__all__ = ["main"]
