"""HTTP: waitress's connections on our loop, and what each request means."""
