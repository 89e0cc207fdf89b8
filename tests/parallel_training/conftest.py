"""The programs run in processes of their own, never imported here."""

collect_ignore_glob = ["programs/*"]
