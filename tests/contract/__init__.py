"""What the platform and its callers rely on, over real HTTP."""
