"""The runtime from its start to its end, with everything that goes wrong between."""
