"""Write the pages of ``docs/reference``."""

from __future__ import annotations

from tests.support.reference_docs.pages import FOLDER, write

write()
print(FOLDER)
