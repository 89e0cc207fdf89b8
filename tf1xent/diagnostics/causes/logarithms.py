"""The logarithm of a probability that has become 0."""

from typing import Optional

from tf1xent.diagnostics.evidence import Evidence
from tf1xent.diagnostics.finding import Cause, Finding


def _probe(evidence: Evidence) -> Optional[Finding]:
    for origin in evidence.origins:
        record = origin.record
        if record.op_type != "Log" or not origin.inputs or not origin.inputs[0].zeros:
            continue
        read = origin.inputs[0]
        what = f"{read.zeros} entries of `{read.name}` are 0, and `{record.name}` is their log."
        row = record.first_bad[0] if record.first_bad else None
        line = evidence.program.line_of(record.name)
        return Finding(
            LOG_OF_ZERO.name,
            what,
            record.name,
            record.op_type,
            line,
            row,
            {"zeros": read.zeros, "largest": read.largest},
            LOG_OF_ZERO.remedy,
        )
    return None


LOG_OF_ZERO = Cause(
    "log of 0",
    "A hand-written loss takes the log of a probability that has become 0.",
    "Compute the loss from the logits: tf.nn.softmax_cross_entropy_with_logits_v2.",
    _probe,
)
