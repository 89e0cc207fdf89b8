"""The mathematics: values and closed-form derivatives of matrices of logits, as graph ops.

Nothing here knows of options or of shapes other than [batch_size, num_classes].
"""
