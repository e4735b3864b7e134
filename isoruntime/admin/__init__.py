"""The admin port: what an operator may look at, apart from what callers use."""
