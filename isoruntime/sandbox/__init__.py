"""What a worker gives up before it runs anything of the user's."""
