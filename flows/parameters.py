"""Types of the parameters that jobs share: their bounds (SPEC 2.10).

The Prefect UI makes its form from them, and refuses what is out of bounds. What each parameter
means is said in the docstring of its flow.
"""

from datetime import datetime
from typing import Annotated

from pydantic import Field

DryRun = bool
AsOf = datetime | None
BatchSize = Annotated[int | None, Field(ge=1, le=50_000)]
DeleteBatchSize = Annotated[int | None, Field(ge=1, le=1_000_000)]
TimeBudget = Annotated[float | None, Field(gt=0, le=86_400)]
MaxBatches = Annotated[int | None, Field(ge=1)]
