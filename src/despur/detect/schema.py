"""The columns of the detections table."""

from __future__ import annotations

import pyarrow as pa

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("phrase", pa.string(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("x0", pa.float32()),
        pa.field("y0", pa.float32()),
        pa.field("x1", pa.float32()),
        pa.field("y1", pa.float32()),
    ]
)
"""``detections.parquet``: a row a sighting, only what was seen. Boxes are in pixels of the upright image; null where
the detector says *whether* but not *where*."""
