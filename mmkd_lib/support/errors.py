"""The one exception for bad input: a sentence that names the thing, the value and the way out."""


class BadInput(ValueError):
    """Input that the handbook refuses; the command line prints it and exits with status 2."""

    def _render_traceback_(self):
        """Jupyter calls this: a reader of a notebook sees the sentence, not forty lines of stack."""
        return [f"BadInput: {self}"]


def one_of(kind, value, allowed):
    """Return `value` if it is allowed, else refuse it with the allowed values; `kind` names the thing."""
    if value not in allowed:
        choices = ", ".join(str(choice) for choice in allowed)
        raise BadInput(f"unknown {kind} {value!r}: choose one of {choices}.")
    return value
