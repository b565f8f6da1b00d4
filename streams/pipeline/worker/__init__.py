"""What plain Faust lacks: one transaction per batch, fencing, restore, and the lost-message check.

Faust gives subscriptions, assignment, agents and tables. It does not get to produce, commit or
restore: those three duties are this package's.
"""
