"""Every way to die, hang, eat or lie: what it costs, and whom."""
