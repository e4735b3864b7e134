"""What a handler can no longer do; skipped, with the reason, where the kernel cannot."""
