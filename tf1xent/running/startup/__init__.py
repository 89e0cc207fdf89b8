"""The folder that ``tf1xent run`` puts first on the PYTHONPATH of the Python that it starts."""
