"""The bytes between the front end and a worker: the format, and its pipes."""
