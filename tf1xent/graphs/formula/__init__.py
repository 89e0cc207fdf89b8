"""Cross-entropy as NodeDefs of stock ops, and the ops and values that these replace."""
