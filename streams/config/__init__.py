"""Every setting, by group: source, unit and bounds, and which of them change results."""
