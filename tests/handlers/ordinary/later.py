"""Imported by an action, and by nothing else before it."""

WHEN = "on first use"
