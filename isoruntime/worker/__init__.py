"""The worker: the process that runs the user's handler, one invocation at a time.

Only the standard library is used here, and little of it: a handler brings what it
wants, and every import is paid for at cold start.
"""
