"""Programs that measure the runtime; `benchmarks/README.md` says which."""
