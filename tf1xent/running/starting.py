"""What the Python that runs the program does before the program's first line."""

import os
import sys
from typing import Callable

import tf1xent
from tf1xent import _registration
from tf1xent.errors import KernelsError
from tf1xent.running import settings as running_settings
from tf1xent.running.report import Report
from tf1xent.running.settings import Settings

_CANNOT_RUN = 2


def start() -> None:
    """Does what the environment's settings say, now and when TensorFlow is imported."""
    settings = running_settings.read(os.environ)
    if settings is None:
        return
    if settings.children:
        running_settings.write(settings._replace(is_child=True), os.environ)
    else:
        running_settings.remove(settings, os.environ)
    if settings.compat:
        from tf1xent.running import compat

        compat.install()
    report = Report(settings) if settings.report else None
    if report is not None:
        report.print_at_exit()

    def register_and_patch(register: Callable[[], None]) -> None:
        try:
            register()
            _patch(settings)
            if report is not None:
                report.observe()
        except Exception as error:
            _refuse(error)

    _registration.registering_with(register_and_patch)


def _patch(settings: Settings) -> None:
    if settings.override_only:
        tf1xent.override_gradients()
    else:
        tf1xent.patch(losses=settings.losses, implementation=settings.implementation)


def _refuse(error: Exception) -> None:
    """Ends the program as `sys.exit` does: without the patch it is not what was asked for."""
    text = (str(error).strip() or "no message").splitlines()[0]
    if not isinstance(error, KernelsError):
        text = f"cannot patch this TensorFlow: {type(error).__name__}: {text}"
    print(f"tf1xent run: {text}", file=sys.stderr)
    raise SystemExit(_CANNOT_RUN) from None
