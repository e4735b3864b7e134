"""Tests of the waitress adapter, with real sockets and the real loop."""
