"""A function's folder, as it lies on disk, and what the platform will make of it.

Nothing here is imported on the way to serving: it is for the commands that look at a
function before it is deployed.
"""
