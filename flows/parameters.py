"""Types of the parameters that jobs share, with their bounds (SPEC 2.10).

The Prefect UI builds its form from these types, and refuses values that are out of bounds. The
docstring of each flow explains its parameters.
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
