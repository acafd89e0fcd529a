"""Sample data: a believable Validibot of any size, whose truth is known.

For tests, for measurements and for trying the jobs out. `load_sample` fills an empty database and
a storage root, and returns what it put there, by every distinction that the jobs make.
Submissions are stored in no order of time; sessions and idempotency keys in order of their expiry.
"""

from demo.sample.loading import load_sample
from demo.sample.spec import SampleSpec
from demo.sample.summary import SampleSummary

__all__ = ["SampleSpec", "SampleSummary", "load_sample"]
