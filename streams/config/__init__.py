"""Every setting, by group: where it is read from, its unit and bounds, and which change results."""
