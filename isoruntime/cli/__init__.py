"""The command line: `main` finds the command, and every command is a module."""
