"""Eigenvalues, traces, densities and influence, from products alone."""
