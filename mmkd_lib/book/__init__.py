"""What notebooks say in one line, exercises, and the traps of the field."""
