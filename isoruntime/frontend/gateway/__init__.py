"""The gateway: the platform's invocation API, answered by the front end itself.

    request ── paths ──▶ which function ── signatures ──▶ may he? ── context ──▶ headers
                                                                                    │
    answer ◀── answers ── outcome ◀── dispatcher ◀── calls, or tasks (asynchronous) ┘

Nothing of it is imported without `--gateway`.
"""
