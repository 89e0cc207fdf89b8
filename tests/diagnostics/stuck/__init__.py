"""Trainings that stand still, go off, or hide NaN."""
