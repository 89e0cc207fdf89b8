"""Comparisons with other libraries, run by `python3 tools/run.py test -e references`."""
