"""Which columns move a model over everything that it may be asked: for its card, without patients.

Values are drawn from the schema alone, so the figure costs no budget and is the same at every
hospital. It tells what the model does with its inputs, and not which of them matter among patients:
those live in a small part of the schema's bounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from learning.invented import invent
from learning.schema import Schema
from learning.task import FloatVector, Task

ROWS, FEWEST_ROWS = 256, 16
# Images, series and notes are read by networks that take long; a job's end must not.
_FEATURES_AT_ONCE = 1 << 14
_MOST_FEATURES = 1 << 16
# Every column costs a prediction from all columns: seconds for a thousand of them.
MOST_COLUMNS = 512
_DIGITS = 4


def rows_for(schema: Schema) -> int:
    """Rows to draw: fewer where columns have many features, none where they have too many."""
    if all(column.kind not in {"array", "text"} for column in schema.columns):
        return ROWS
    if schema.num_features > _MOST_FEATURES:
        return 0
    return max(FEWEST_ROWS, min(ROWS, _FEATURES_AT_ONCE // schema.num_features))


def importance(task: Task, weights_P: FloatVector) -> Mapping[str, float]:
    """Each column's total effect: the share of the predictions' variance that is gone without it.

    Rows are drawn independently and evenly over the schema; a column's effect is how far
    predictions go when it alone is drawn anew. Effects that columns have together count for each,
    so shares may add up to more than 1.

    Args:
        task: The task.
        weights_P: The finished model.

    Returns:
        By column, in the schema's order; empty where there is one column or more than
        `MOST_COLUMNS`, where predictions are all the same or no numbers, and where images are so
        large that too few rows could be asked.

    Source: Jansen 1999, Analysis of variance designs for model output; Saltelli et al. 2010,
    Variance based sensitivity analysis of model output, table 2 (f).
    """
    columns = task.schema.columns
    rows = rows_for(task.schema)
    if not (2 <= len(columns) <= MOST_COLUMNS and rows):
        return {}
    rng = np.random.Generator(np.random.PCG64(0))
    first_NF, other_NF = (invent(task.schema, rows, rng) for _ in range(2))
    own_NC = task.predict(weights_P, first_NF)
    with np.errstate(all="ignore"):
        variance = float(own_NC.var(axis=0, ddof=1).sum())
    if not 0 < variance < math.inf:
        return {}  # a model that has diverged is stored all the same: its card says nothing here
    effects, place = {}, 0
    for column in columns:
        part = slice(place, place + column.num_features)
        place = part.stop
        x_NF = first_NF.copy()
        x_NF[:, part] = other_NF[:, part]
        moved_NC = task.predict(weights_P, x_NF) - own_NC
        effect = float((moved_NC**2).sum()) / (2 * rows * variance)
        effects[column.name] = round(effect, _DIGITS)
    return effects if all(map(math.isfinite, effects.values())) else {}
