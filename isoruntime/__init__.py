"""isoruntime: run Function Compute handlers in isolated, supervised workers.

Nothing is imported here: every process of the runtime passes through this file
on its way up, and most of them need very little.
"""

__version__ = "0.1.0"
