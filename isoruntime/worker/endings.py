"""How a process ended that a worker stands for: a command, or a server of the user's."""

from __future__ import annotations


class EndedLike(BaseException):
    """The worker has to end as another process did: by a signal, or with an exit code.

    What becomes of an invocation is then judged as if the handler itself had done it:
    by the kernel's own report, with peak memory, and with the limit it ran into.
    """

    def __init__(self, status: int) -> None:
        """Take a status as `os.waitstatus_to_exitcode` gives it, negative for a signal."""
        super().__init__(status)
        self.signal = -status if status < 0 else None
        self.code = max(0, status)
