"""The product at other dates, time zones and languages, and with a clock that is wrong.

``make dates`` runs ``python -m tests.dates``; ``test_*.py`` run with every other test.
"""
