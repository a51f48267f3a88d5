"""Outcomes of cases against what was recorded, and through the mesh against direct ones."""

import json
import re

import pairings


class Agreement:
    """How outcomes must agree; `on_purpose` lists those that may differ: case pattern -> outcome pattern."""

    def __init__(self, on_purpose=()):
        self.on_purpose = on_purpose

    def exception(self, case):
        return next((outcome for pattern, outcome in self.on_purpose if re.fullmatch(pattern, case)), None)

    def __call__(self, case, wanted, seen):
        outcome = self.exception(case)
        if outcome is not None:
            return re.fullmatch(outcome, seen, re.DOTALL) is not None
        return wanted == seen


def compare(report, title, wanted, seen, agree):
    """A line for each group of cases; whether all agreed."""
    # What the report says was wanted is the pattern where there is one.
    shown = {case: agree.exception(case) or outcome for case, outcome in wanted.items()}
    return pairings.compare(report, title, shown, seen, lambda case, _, outcome: agree(case, wanted[case], outcome))


def recorded(name, direct, record):
    """The direct outcomes that were recorded; with `record`, they are those seen now."""
    path = pairings.EXPECTED / f"{name}.json"
    if record:
        path.write_text(json.dumps(direct, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    return json.loads(path.read_text())
