"""Sample data: a believable Validibot of any size, whose truth is known.

For tests, for measurements and for trying the jobs out. `load_sample` fills an empty database and
a storage root, and returns what it put there, by every distinction that the jobs make.
Submissions are stored in no order of time; sessions and idempotency keys in order of their expiry.
"""

from maintenance.sample.loading import load_sample
from maintenance.sample.spec import SampleSpec
from maintenance.sample.summary import SampleSummary

__all__ = ["SampleSpec", "SampleSummary", "load_sample"]
