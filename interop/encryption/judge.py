"""What came of a run: the table for people, the JSON for programs, and where the failures were."""

import calendar
import json
import time


class Phases:
    """What was done when."""

    def __init__(self):
        self.began = time.time()
        self.list = []

    def begin(self, name):
        now = time.time()
        if self.list:
            self.list[-1]["end"] = now
        self.list.append({"name": name, "begin": now, "end": None})
        print(f"  {now - self.began:6.1f} s  {name}", flush=True)

    def end(self):
        self.list[-1]["end"] = time.time()

    def at(self, moment):
        for phase in self.list:
            if phase["begin"] <= moment and (phase["end"] is None or moment < phase["end"]):
                return f"{phase['name']} + {moment - phase['begin']:.2f} s"
        return "outside of all phases"

    def window(self, name):
        phase = next(phase for phase in self.list if phase["name"] == name)
        return phase["begin"], phase["end"] or time.time()


def told(failures, phases, logs, most=20, alike=3):
    """The first failures of every load and kind, each with the access logs' lines around it."""
    lines, seen, shown = [], {}, []
    for failure in sorted(failures, key=lambda one: one["at"]):
        kind = failure["load"], failure["kind"]
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] <= alike and len(shown) < most:
            shown.append(failure)
    entries = [(stamp(entry["time"]), log.name, entry) for log in logs for entry in access(log)]
    for failure in shown:
        began = failure["due"] or failure["at"]
        took = f", told {failure['at'] - began:.3f} s later" if failure["due"] else ""
        lines.append(f"{failure['load']}: {failure['kind']} ({failure['which']}), sent in {phases.at(began)}{took}")
        near = [(log, entry) for at, log, entry in entries
                if min(abs(at - failure["at"]), abs(at - began)) < 0.25]
        lines += [f"    {log}: {json.dumps(entry)}" for log, entry in near[:4]]
    if len(failures) > len(shown):
        lines.append(f"... and {len(failures) - len(shown)} more: " + ", ".join(
            f"{load}: {kind}: {count}" for (load, kind), count in seen.items()))
    return "\n".join(lines)


def access(log):
    """The failed requests of an access log (successful ones are not sampled)."""
    if not log.exists():
        return []
    found = []
    for line in log.read_text(errors="replace").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # The last line may be half written.
    return found


def stamp(text):
    """Seconds since 1970 of an access log's time, UTC to the microsecond."""
    whole, _, rest = text.rstrip("Z").partition(".")
    parts = time.strptime(whole, "%Y-%m-%dT%H:%M:%S")
    return calendar.timegm(parts) + float(f"0.{rest or 0}")


def summed(loads, phases, before, after):
    """A row for every load: counts, and p99 before, during and after the switches, in ms."""
    windows = {"before": phases.window(before), "after": phases.window(after)}
    windows["during"] = (windows["before"][1], windows["after"][0])
    rows = []
    for load in loads:
        row = {"load": load.name, **load.finish()}
        if hasattr(load, "quantile"):
            for name, (begin, end) in windows.items():
                value = load.quantile(begin, end, 0.99)
                row[f"p99{name.title()}Ms"] = None if value is None else round(value, 2)
        rows.append(row)
    return rows


def table(rows, columns):
    """Aligned columns; what a row has not is a dash."""
    cells = [[title for title, _ in columns]]
    for row in rows:
        cells.append(["–" if row.get(key) is None else str(row[key]) for _, key in columns])
    widths = [max(len(line[at]) for line in cells) for at in range(len(columns))]
    return "\n".join("  " + "  ".join(
        text.ljust(width) if at == 0 else text.rjust(width)
        for at, (text, width) in enumerate(zip(line, widths))) for line in cells)


LOADS = (("load", "load"), ("sent", "sent"), ("answered", "answered"), ("failed", "failed"),
         ("p99 before ms", "p99BeforeMs"), ("during", "p99DuringMs"), ("after", "p99AfterMs"))
SWITCHES = (("lane", "lane"), ("connections", "connections"), ("last request s", "lastRequestS"),
            ("last reply s", "lastReplyS"), ("last close s", "lastCloseS"), ("still open", "open"))


def switch_table(switch):
    rows = [{"lane": lane, **row} for lane, row in switch["lanes"].items()]
    return f"  {switch['name']}: seconds after the push, by lane\n" + table(rows, SWITCHES)
