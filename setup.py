"""Builds tf1xent; all but the packages is declared in setup.cfg.

The sources of the native kernels lie in ops/ of the repository and are installed as tf1xent/ops/,
where `tf1xent.kernels` looks for them. It is no package, so `find:` of setup.cfg cannot name it.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["tf1xent", "tf1xent.*"]), "tf1xent.ops"],
    package_dir={"tf1xent.ops": "ops"},
)
