"""What is measured, to be looked at: pictures, event files, a hook, the report of a spectrum."""
