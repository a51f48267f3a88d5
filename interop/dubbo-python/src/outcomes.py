"""What every case came to, as text that two runs can be compared by: a value, or the error."""

import hashlib
import json
import re

LONGEST_SHOWN = 400


def show(value):
    if isinstance(value, (bytes, bytearray)):
        return f"{len(value)} bytes, sha1 {sha1(value)}"
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=plain)
    return text if len(text) <= LONGEST_SHOWN else f"text of {len(text)} characters, sha1 {sha1(text.encode())}"


def plain(value):
    """Java objects of dubbo_ssl as their fields."""
    if hasattr(value, "keys"):
        return {key: value[key] for key in value.keys()}
    return str(value)


def sha1(data):
    return hashlib.sha1(data).hexdigest()[:12]


def normalise(message):
    """Addresses, ids, times and durations differ from run to run and are replaced by their kind."""
    lines = str(message).strip().splitlines()
    text = lines[0] if lines else ""
    text = re.sub(r"/?\d+\.\d+\.\d+\.\d+(:\d+)?", "ADDR", text)
    text = re.sub(r"(?i)\b(id[ =:]+)\d+", r"\1N", text)
    return re.sub(r"\d+(\.\d+)? ?ms", "N ms", text)


class Outcomes:
    def __init__(self):
        self.by_case = {}

    def run(self, name, body):
        """Runs one case and keeps its outcome."""
        if name in self.by_case:
            raise ValueError(f"two cases are called {name}")
        try:
            self.by_case[name] = "ok " + show(body())
        except Exception as error:  # Whatever it is, it is the outcome.
            self.by_case[name] = f"throw {type(error).__name__}: {normalise(error)}"

    def write(self, path):
        with open(path, "w", encoding="utf-8") as out:
            json.dump(self.by_case, out, indent=1, ensure_ascii=False, sort_keys=True)
        return len(self.by_case)
