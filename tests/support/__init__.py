"""Cases, tolerances and fixtures that several tests share."""
