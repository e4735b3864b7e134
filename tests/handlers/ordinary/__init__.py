"""What ordinary functions do, one action a function: none of it may stop working."""
