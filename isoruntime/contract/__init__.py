"""What Function Compute sends and expects, as pure functions of values.

Nothing here opens, reads or waits for anything; `docs/architecture.md` says who
calls it: `headers` and `answer` serve the front end, `encoding` the worker.
"""
