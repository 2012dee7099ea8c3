"""Attributes that the dataset states itself, as detections."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from despur.data.examples import Dataset
from despur.detect.schema import SCHEMA


def column_detections(dataset: Dataset, attributes: Sequence[str] = ()) -> pa.Table:
    """A sighting wherever an attribute's column says so, with score 1 and no box, image by image.

    Args:
        attributes: names of columns; empty: every attribute that the dataset has.

    Raises:
        DataError: an attribute that the dataset does not have.
    """
    names = list(attributes) or [attribute.name for attribute in dataset.attributes]
    present = np.stack([dataset.present(name) for name in names], axis=1) if names else np.zeros((len(dataset), 0))
    image, name = np.nonzero(present)
    nowhere = pa.nulls(len(image), pa.float32())
    return pa.table(
        [
            dataset.table["id"].take(pa.array(image)),
            pa.array(names, type=pa.string()).take(pa.array(name)),
            pa.array(np.ones(len(image), dtype=np.float32)),
            *[nowhere] * 4,
        ],
        schema=SCHEMA,
    )
