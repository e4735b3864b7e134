"""What the function beside this file imports."""

GREETING = "from"
