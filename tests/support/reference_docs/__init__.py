"""The pages of ``docs/reference``, made from the code: ``python -m
tests.support.reference_docs``."""
