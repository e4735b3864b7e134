"""What the front end prints: lines cut, formatted, and written without waiting.

Output of a worker goes `lines` (whole lines of bounded length) → `formats` (the form
`--log-format` asks for) → `sink` (the only place that writes). `messages` sends the
runtime's own log records the same way.
"""
