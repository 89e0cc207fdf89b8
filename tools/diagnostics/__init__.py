"""Trainings with planted faults: does tf1xent's diagnosis name their causes?"""
