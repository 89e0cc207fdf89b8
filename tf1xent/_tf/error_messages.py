"""What TensorFlow's errors say, in a line."""

_NODE = "Node: "


def error_line(error: BaseException) -> str:
    """Returns the line of an error's message that says what is wrong, with a full stop.

    Errors of a session's run begin, on TF 2.x, with the place in the program that made the op.
    """
    text = str(getattr(error, "message", None) or error)
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    places = [number for number, line in enumerate(lines) if line.startswith(_NODE)]
    if lines[0].startswith("Graph execution error"):
        lines = lines[places[-1] + 1 if places else 1 :] or lines
    return lines[0].rstrip(".:") + "."
