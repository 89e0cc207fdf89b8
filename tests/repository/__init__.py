"""Tests of the repository itself: layout, README, examples."""
