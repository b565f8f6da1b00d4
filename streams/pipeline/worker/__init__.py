"""Exactly-once runtime for Faust: one transaction per batch, fencing, restore, gap detection.

Faust provides subscriptions, assignment, agents and tables. Producing, committing and restoring are
done by this package, not by Faust.
"""
