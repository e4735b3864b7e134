"""Handlers and applications that the programs beside this folder run."""
