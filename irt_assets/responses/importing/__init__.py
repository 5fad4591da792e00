"""Importing what others logged: answers, the item bank, learners.

`import_attempts`, `import_questions`, `import_learners` and `presets` are all that callers need. The parts:
`readers` (files; each kind in a module of its own), `mapping` (columns), `matrix` (which of them are items),
`scoring` (what is right), `times`, `clean` (values), `staging` (each answer once), `take` (tables in memory into the
log), `load` (files to `take`), `bank` (items and learners), `report`.
"""

from irt_assets.responses.importing.bank import import_learners, import_questions
from irt_assets.responses.importing.load import import_attempts
from irt_assets.responses.importing.mapping import presets
from irt_assets.responses.importing.report import ImportReport

__all__ = ["ImportReport", "import_attempts", "import_learners", "import_questions", "presets"]
