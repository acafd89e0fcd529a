"""Parameters that jobs share: their bounds and the help that the Prefect UI shows (SPEC 2.10)."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

DryRun = Annotated[
    bool, Field(description="Only say what a run would do. Nothing is written or deleted.")
]
AsOf = Annotated[
    datetime | None,
    Field(
        description=(
            "The moment to work up to (UTC without a zone). Empty: the database's time now."
            " A moment in the future is allowed in a dry run only, as a forecast."
        )
    ),
]
BatchSize = Annotated[
    int | None,
    Field(
        ge=1,
        le=50_000,
        description=(
            "Most rows of one batch (1 to 50,000); batches adapt below it to their target time."
            " Empty: the worker's setting."
        ),
    ),
]
TimeBudget = Annotated[
    float | None,
    Field(
        gt=0,
        le=86_400,
        description=(
            "Seconds after which the run stops with the rest left for the next one (above 0, at"
            " most 86,400). Empty: the worker's setting, or the job's own default."
        ),
    ),
]
MaxBatches = Annotated[
    int | None,
    Field(ge=1, description="Stop after so many batches (at least 1). Empty: no limit."),
]
RetryFailed = Annotated[
    bool,
    Field(
        description=(
            "Also try the items whose earlier purge failed and whose next attempt is not due yet;"
            " useful after the cause was mended."
        )
    ),
]
