"""What the programs in the folder above consist of."""
