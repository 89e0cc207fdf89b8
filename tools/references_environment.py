"""Prints the Python of an environment of its own that has PyTorch, JAX and optax.

    python3.11 tools/references_environment.py

The environment is made inside the checkout, as tools/run.py makes its own; the versions, and the
version of Python, are those of testenv:references in setup.cfg.
"""

import configparser
import os
import subprocess
import sys

import run

LIBRARIES = ("jax", "optax", "torch")


def read_section():
    """Returns the section of setup.cfg."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(str(run.ROOT / "setup.cfg"), encoding="utf-8")
    return config["testenv:references"]


def requirements():
    """Returns the requirements of LIBRARIES, ["jax==...", ...]."""
    found = read_section()["deps"].split()
    return [requirement for requirement in found if requirement.split("==")[0] in LIBRARIES]


def make():
    """Returns the path of the environment's Python, made if it is not there, from any Python."""
    version = read_section()["base_python"].replace("python", "")
    interpreter = run.find_interpreter(version)
    if interpreter is None:
        sys.exit(
            f"{os.path.basename(sys.argv[0])}: no Python {version} was found for an environment "
            "with {}; name one that has them: --references-python".format(", ".join(LIBRARIES))
        )
    # What leads Python to packages elsewhere must not reach another version of it.
    variables = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH")}
    made = subprocess.run(
        [interpreter, os.path.abspath(__file__)], stdout=subprocess.PIPE, env=variables
    )
    if made.returncode != 0:
        sys.exit(made.returncode)
    return made.stdout.decode().splitlines()[-1]


if __name__ == "__main__":
    print(run.private_environment("references", tuple(requirements())))
