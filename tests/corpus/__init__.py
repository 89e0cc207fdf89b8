"""Graphs written by TensorFlow 1.13.2 and 1.15.5: the programs, what they wrote, and its reader."""
