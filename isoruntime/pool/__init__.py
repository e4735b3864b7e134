"""Which workers exist, and what each of them does."""
