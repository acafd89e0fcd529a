"""The texts and bytes of the sample's documents."""

from hashlib import sha256

LINE = "Zone,Office North,0,0,0,0,1,1,autocalculate,autocalculate; ! storey 2, heated\n"

INPUT_ENVELOPE = b'{"schema":"validibot.input.v1","input_files":["input/model.idf"],"context":{}}'
OUTPUT_ENVELOPE = b'{"schema":"validibot.output.v1","status":"success","messages":[],"metrics":{}}'
INPUT_ENVELOPE_HASH = sha256(INPUT_ENVELOPE).hexdigest()
OUTPUT_ENVELOPE_HASH = sha256(OUTPUT_ENVELOPE).hexdigest()
REPORT = b"<!doctype html><title>Report</title><h1>Energy report</h1><p>All zones met.</p>\n" * 12
REPORT_HASH = sha256(REPORT).hexdigest()
WEATHER = b"LOCATION,Harbour City,-,-,TMY3,000000,53.5,10.0,1.0,11.0\n" * 12
WEATHER_HASH = sha256(WEATHER).hexdigest()


class Documents:
    """Documents of one size, each different by its first line."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._body = LINE * (size // len(LINE) + 1)

    def upload(self, submission_id: str) -> str:
        """Write the document that was submitted."""
        head = f"! submission {submission_id}\n"
        return head + self._body[: self._size - len(head)]
