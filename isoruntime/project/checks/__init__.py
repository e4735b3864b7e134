"""The checks, a module a family: each yields the findings about one function."""
