"""What tests start and talk to: the real runtime, and services it is used with."""
