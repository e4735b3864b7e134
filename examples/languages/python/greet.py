"""Greets whoever the event names: standard input to standard output, the log in between."""

import os
import sys

name = sys.stdin.read().strip()
print(os.environ["FC_REQUEST_ID"], f"greeting {name!r}", file=sys.stderr)
if not name:
    sys.exit("there is nobody to greet")
sys.stdout.write(f"Hello, {name}!")
