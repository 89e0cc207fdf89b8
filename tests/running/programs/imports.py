"""Answers questions about what a program gets when it imports TensorFlow.

    python imports.py QUESTIONS.json

The file holds a list of [statements, expression]. Prints, as JSON, what the expressions give after
the statements, each in a namespace of its own: their values' `repr`, or the type and the message of
the exception.
"""

import json
import sys


def answer(statements, expression):
    namespace = {"__name__": "__main__"}
    try:
        exec(statements, namespace)
        return repr(eval(expression, namespace))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


with open(sys.argv[1]) as file:
    questions = json.load(file)
print(json.dumps([answer(*question) for question in questions]))
